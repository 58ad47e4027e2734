"""A fake STS (AWS's query protocol) and a container's credentials endpoint, in a thread, for keys that end soon."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ANSWER = """<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <{action}Result>
    <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>{arn}/s</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
      <SessionToken>token-{key}</SessionToken><Expiration>{ends}</Expiration>
    </Credentials>
  </{action}Result>
  <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
</{action}Response>"""
REFUSAL = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>{code}</Code><Message>because</Message></Error><RequestId>r</RequestId>
</ErrorResponse>"""


@dataclass(frozen=True)
class Issued:
    """Keys that were given out: for which role (or ``container``), at what time (epoch) and until when, to whose key.

    The first keys of the role ``reader`` are ``ASIA-reader-0``.
    """

    role: str
    key: str
    at: float
    ends: float
    by: str
    session: str = ""


@dataclass
class FakeSts:
    """``life`` seconds is how long keys live. ``tokens``: the web identities it believes.

    ``forbidden`` are roles, by the last part of their ARNs, that nobody may assume. ``refusal`` is what it answers no with
    to everybody: a status and a code, or "hang" for no answer at all.
    """

    life: float = 3600.0
    tokens: set[str] = field(default_factory=set)
    refusal: tuple[int, str] | str | None = None
    issued: list[Issued] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    revoked: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {"AWS_ENDPOINT_URL_STS": self.endpoint}

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def of(self, role: str) -> list[Issued]:
        """What was given out for a role, by the last part of its ARN."""
        with self._lock:
            return [each for each in self.issued if each.role.rpartition("/")[2] == role]

    def ended(self) -> list[str]:
        """The access keys whose time is over, or that were revoked."""
        with self._lock:
            return [each.key for each in self.issued if each.ends <= time.time()] + sorted(self.revoked)

    @contextmanager
    def ending_keys_at(self, expire: Callable[..., None]) -> Iterator[None]:
        """While it lasts ``expire(*keys)`` is called with all keys that have ended, whenever there are more."""
        stop = threading.Event()

        def run() -> None:
            told: list[str] = []
            while not stop.is_set():
                ended = self.ended()
                if ended != told:
                    expire(*ended)
                    told = ended
                stop.wait(0.01)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
            expire()

    # -- answers -----------------------------------------------------------------------------------

    def _issue(self, role: str, by: str, session: str = "") -> Issued:
        with self._lock:
            now = time.time()
            name = role.rpartition("/")[2]
            number = sum(each.role == role for each in self.issued)
            issued = Issued(role, f"ASIA-{name}-{number}", now, now + self.life, by, session)
            self.issued.append(issued)
        return issued

    def _assumed(self, form: dict[str, str], authorization: str) -> tuple[int, str]:
        action = form["Action"]
        by = authorization.partition("Credential=")[2].partition("/")[0]
        with self._lock:
            self.asked[action] += 1
        if by in self.ended():
            return 403, REFUSAL.format(code="ExpiredToken")
        if isinstance(self.refusal, tuple):
            return self.refusal[0], REFUSAL.format(code=self.refusal[1])
        if form["RoleArn"].rpartition("/")[2] in self.forbidden:
            return 403, REFUSAL.format(code="AccessDenied")
        if action == "AssumeRoleWithWebIdentity" and form["WebIdentityToken"] not in self.tokens:
            return 400, REFUSAL.format(code="InvalidIdentityToken")
        issued = self._issue(form["RoleArn"], by, form.get("RoleSessionName", ""))
        ends = datetime.fromtimestamp(issued.ends, timezone.utc).isoformat(timespec="milliseconds")
        return 200, ANSWER.format(action=action, arn=form["RoleArn"], key=issued.key, ends=ends)

    def _contained(self) -> tuple[int, str]:
        with self._lock:
            self.asked["container"] += 1
        if isinstance(self.refusal, tuple):
            return self.refusal[0], "{}"
        issued = self._issue("container", "")
        ends = datetime.fromtimestamp(issued.ends, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {"AccessKeyId": issued.key, "SecretAccessKey": "s", "Token": f"t-{issued.key}", "Expiration": ends}
        return 200, json.dumps(document)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sts = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self._answer(*sts._assumed(form, self.headers.get("Authorization", "")))

            def do_GET(self) -> None:
                assert urlsplit(self.path).path == "/credentials"
                self._answer(*sts._contained())

            def _answer(self, status: int, text: str) -> None:
                if sts.refusal == "hang":
                    sts._closing.wait(60)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.send_header("Content-Type", "text/xml")
                self.end_headers()
                self.wfile.write(text.encode())

        return Handler
