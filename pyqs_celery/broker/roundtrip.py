"""One request to SQS and its answer, made on behalf of a client of botocore's, without what SQS does not need.

A client counts attempts, writes headers about them, asks twice what its answer is like and reads that field by field from the
description of its shape. For SQS's JSON that is a quarter of a request's time. Here a request is put together and signed by its
client, sent by botocore's HTTP session, and read as JSON (AWS: Making Query API requests using AWS JSON protocol in Amazon SQS).

What a client lets others do it still does: parameters, endpoint and signature are its own, and its events are emitted but for
those of its retries and its parser, so that instrumentation and mocks see each call (botocore: Events). Should a release of
botocore lack what is used here, or somebody have wrapped its sending, the client makes its requests itself, as without us.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

logger = logging.getLogger(__name__)

OTHERWISE = (ImportError, AttributeError, KeyError, TypeError)
"""What tells that botocore is not as it was."""


class RoundTrip:
    """Makes the requests of a client of botocore's for SQS, once ``on`` has taken it. Safe under threads.

    It takes botocore's event ``before-call``, whose handlers may bring the answer.
    """

    def __init__(self, client: Any, http_session: Any) -> None:
        self._events = client.meta.events
        self._http = http_session
        self._endpoint = _Endpoint()
        self._is_of_use = True

    @classmethod
    def on(cls, client: Any, ca_bundle: str | None) -> RoundTrip | None:
        """Make this client's requests from now on. None, and it makes them itself, if it repeats them or speaks no JSON.

        ``ca_bundle`` is the path of the certificates to trust, None for what ``REQUESTS_CA_BUNDLE`` or botocore say.
        """
        try:
            meta = client.meta
            if meta.service_model.protocol != "json" or (meta.config.retries or {}).get("total_max_attempts") != 1:
                return None
            trip = cls(client, _http_session(meta, ca_bundle))
            meta.events.register_last("before-call", trip.make)  # behind all others, the most general ones too
        except OTHERWISE as exc:
            _tell(exc)
            return None
        return trip

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def make(self, *, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
        """Sign, send, read: botocore's HTTP response and the answer; None if the client shall do it.

        ``model`` is the operation's description, ``params`` the request as its client has put it together. Raises
        botocore's HTTPClientErrors, for an answer that is not SQS's too.
        """
        if not self._is_of_use or self._endpoint.is_wrapped:
            return None
        request = self._tried(_request, params)
        if request is None:
            return None
        self._events.emit(
            f"request-created.sqs.{model.name}", request=request, operation_name=model.name
        )  # it is signed
        request = self._tried(_prepared, request)
        if request is None:
            return None
        brought = self._events.emit(f"before-send.sqs.{model.name}", request=request)
        response = next((answer for _, answer in brought if answer is not None), None)
        if response is None:
            response = self._http.send(request)
        return response, _read(response)

    def _tried(self, part: Callable[[Any], Any], what: Any) -> Any:
        """What a part of botocore's makes; None, and it is not asked again, if botocore is not as it was."""
        try:
            return part(what)
        except OTHERWISE as exc:
            self._is_of_use = False
            _tell(exc)
            return None


def _request(params: dict[str, Any]) -> Any:
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(params["method"], params["url"], params["headers"], params["body"])
    request.context = params["context"]
    return request


def _prepared(request: Any) -> Any:
    """What is sent. A plain dict of headers: the one that ``prepare()`` makes takes twenty microseconds to fill and read."""
    from botocore.awsrequest import AWSPreparedRequest

    headers = {
        name: value.encode("utf-8") if isinstance(value, str) and not value.isascii() else value  # AWS takes UTF-8
        for name, value in request.headers.items()
    }
    return AWSPreparedRequest(request.method, request.url, headers, request.data, False)


class _Endpoint:
    """botocore's sending, and whether somebody has put code of his own around it: tracers do, and must see each request."""

    def __init__(self) -> None:
        from botocore.endpoint import Endpoint

        self._class = Endpoint
        methods = (Endpoint.make_request, Endpoint.prepare_request)
        self._make, self._prepare = (method if _is_botocores(method) else None for method in methods)

    @property
    def is_wrapped(self) -> bool:
        """True if it is not what botocore has brought."""
        return self._class.make_request is not self._make or self._class.prepare_request is not self._prepare


def _is_botocores(method: Any) -> bool:
    return method.__module__ == "botocore.endpoint" and not hasattr(method, "__wrapped__")


def _tell(exc: Exception) -> None:
    logger.warning("botocore is not as it was (%s: %s): requests take more processor time", type(exc).__name__, exc)


def _read(response: Any) -> dict[str, Any]:
    """What an answer says, in the form that botocore gives it."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    status, content = response.status_code, response.content
    try:
        said = json.loads(content) if content or status >= 300 else {}
        if b'"BinaryValue"' in content:
            _open_binary_values(said)
    except (ValueError, TypeError, AttributeError, RecursionError):
        said = None
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers, "RetryAttempts": 0}
    if "x-amzn-requestid" in headers:
        metadata["RequestId"] = headers["x-amzn-requestid"]
    if status >= 300:
        return {"Error": _error(status, headers, said), "ResponseMetadata": metadata}
    if not isinstance(said, dict) or _is_cut(headers, content):
        from botocore.exceptions import HTTPClientError

        raise HTTPClientError(error=f"the answer is not SQS's: {content[:60]!r}")
    said["ResponseMetadata"] = metadata
    return said


def _error(status: int, headers: dict[str, str], said: Any) -> dict[str, str]:
    """Code and message of a refusal. The code that SQS had before it spoke JSON stands in a header of its own, and goes first."""
    if not isinstance(said, dict):
        return {"Code": str(status), "Message": http.client.responses.get(status, "")}
    code = str(said.get("__type") or status).partition(":")[0].rpartition("#")[2]
    error = {"Code": code, "Message": str(said.get("message") or said.get("Message") or "")}
    old, _, fault = headers.get("x-amzn-query-error", "").partition(";")
    return {**error, "Code": old, "QueryErrorCode": code, "Type": fault} if old else error


def _is_cut(headers: dict[str, str], content: bytes) -> bool:
    """True if the connection ended before all of the answer was there."""
    told = headers.get("content-length", "")
    return "content-encoding" not in headers and told.isdigit() and len(content) < int(told)


def _open_binary_values(answer: dict[str, Any]) -> None:
    for message in answer.get("Messages") or ():
        for attribute in (message.get("MessageAttributes") or {}).values():
            if attribute.get("BinaryValue") is not None:
                attribute["BinaryValue"] = b64decode(attribute["BinaryValue"])


def _http_session(meta: Any, ca_bundle: str | None) -> Any:
    """A session like the one a client has for itself, with the same time limits, proxies and certificates."""
    from botocore.httpsession import URLLib3Session

    config = meta.config
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if config.tcp_keepalive:
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
    return URLLib3Session(
        verify=ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True,
        proxies=_proxies(meta.endpoint_url) if config.proxies is None else config.proxies,
        proxies_config=config.proxies_config,
        timeout=(config.connect_timeout, config.read_timeout),
        max_pool_connections=config.max_pool_connections,
        socket_options=options,
        client_cert=config.client_cert,
    )


def _proxies(url: str) -> dict[str, str]:
    """Those of the environment for this URL, by its scheme."""
    return {} if proxy_bypass(urlsplit(url).netloc) else getproxies()
