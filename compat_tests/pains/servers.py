"""Small servers that some rows need beside SQS: AWS's token service, the ECS agent, a proxy with other queue URLs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


@contextmanager
def serving(answer: Callable[[str, str, dict[str, str], bytes], Answer]) -> Iterator[str]:
    """A server on loopback that answers (method, path, headers, body); gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content_type, out = answer(self.command, self.path, dict(self.headers.items()), body)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        do_GET = do_POST = do_PUT = respond  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Say nothing: what matters is in the facts."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed in mid-request is no news."""

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TokenService:
    """AssumeRole whose keys live for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.given: list[tuple[str, float]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        expires = time.time() + self.seconds
        key = f"ASIAPAINS{len(self.given):07}"
        self.given.append((key, expires))
        when = datetime.fromtimestamp(expires, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>"
            f"<Expiration>{when}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:pains</AssumedRoleId>"
            "<Arn>arn:aws:sts::000000000000:assumed-role/pains/pains</Arn></AssumedRoleUser></AssumeRoleResult>"
            "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
        )
        return 200, "text/xml", text.encode()

    def expired(self) -> list[str]:
        return [key for key, expires in self.given if expires < time.time()]


class EcsAgent:
    """Takes task protection and remembers when it was set to what."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, bool]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        wanted = json.loads(body or b"{}")
        self.calls.append((time.time(), bool(wanted.get("ProtectionEnabled"))))
        state = {"ProtectionEnabled": wanted.get("ProtectionEnabled"), "TaskArn": "arn:aws:ecs:us-east-1:0:task/pains"}
        return 200, "application/json", json.dumps({"protection": state}).encode()


class RenamingProxy:
    """An SQS whose queue URLs name a host that cannot be reached, as an emulator inside a container network gives them."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._inside = endpoint.removeprefix("http://").encode()
        self._outside = b"sqs.inside.invalid:4566"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        wanted = body.replace(self._outside, self._inside)
        kept = {
            key: headers[key] for key in headers if key.lower() in {"content-type", "x-amz-target", "authorization"}
        }
        request = Request(self._endpoint + path, data=wanted, headers=kept, method=method)
        try:
            with urlopen(request, timeout=60) as found:
                status, content_type, out = found.status, found.headers["Content-Type"], found.read()
        except HTTPError as exc:
            status, content_type, out = exc.code, exc.headers["Content-Type"], exc.read()
        return status, content_type or "application/x-amz-json-1.0", out.replace(self._inside, self._outside)
