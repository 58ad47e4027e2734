"""AWS for the stores: moto's server as DynamoDB and S3, and a server that answers what a test tells it."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore.config import Config

from tests.support.servers import MotoServer, Server, free_port

# moto answers several requests at once without making each atomic, as DynamoDB's are.
ONE_AT_A_TIME = """
import sys, threading
from werkzeug.serving import run_simple
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def application(environ, start_response):
    with lock:
        return moto(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)
"""
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}


class AtomicMoto(MotoServer):
    """moto's server, one request after the other."""

    def __init__(self) -> None:
        port = free_port()
        Server.__init__(self, [sys.executable, "-c", ONE_AT_A_TIME, str(port)], port, {"MOTO_PORT": str(port)})

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )


class ScriptedAws:
    """A server in a thread: ``answer`` gives a request's status and document; without it, requests are passed on.

    A request's action is DynamoDB's, or method and path.
    """

    def __init__(self, upstream: str = "") -> None:
        self.upstream = upstream
        self.answer: Callable[[str, bytes], tuple[int, Any] | None] = lambda action, body: None
        self.seen: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                target = self.headers.get("X-Amz-Target", "")
                action = target.rpartition(".")[2] or f"{self.command} {self.path}"
                aws.seen[action] += 1
                answer = aws.answer(action, body)
                if answer is None:
                    status, headers, data = aws._pass_on(self.command, self.path, dict(self.headers), body)
                else:
                    status, document = answer
                    is_text = isinstance(document, str)
                    data = (document if is_text else json.dumps(document)).encode()
                    headers = {"Content-Type": "application/xml" if is_text else "application/x-amz-json-1.0"}
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
            setattr(Handler, f"do_{method}", Handler._serve)

        return Handler

    def _pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        from http.client import HTTPConnection

        connection = HTTPConnection(self.upstream.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {"Content-Type": answer.getheader("Content-Type", "")}, answer.read()
        finally:
            connection.close()


def refusal(code: str, message: str = "because", status: int = 400) -> tuple[int, Any]:
    """What DynamoDB answers no with."""
    return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}


def xml_refusal(code: str, message: str = "because", status: int = 403) -> tuple[int, Any]:
    """What S3 answers no with."""
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
