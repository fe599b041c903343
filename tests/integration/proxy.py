"""An HTTP proxy in front of a storage server that logs all requests and injects faults by rule.

It passes headers through unchanged. S3 signatures stay valid: they are made for its address.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

PIECES = 20
"""Pieces of a slow answer."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}

ERRORS = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
"""What S3 says to an HTTP status."""

Kind = Literal[403, 404, 500, 503, "slow", "hang", "reset", "flip", "truncate"]


@dataclass
class Request:
    """One request and what was answered."""

    method: str
    path: str
    """Of the object, with its bucket, without query."""
    range: str
    """Its Range header, or ""."""
    time: float = field(default_factory=time.time)
    status: int = 0
    """HTTP status of the answer; 0 without an answer."""
    sent: int = 0
    """Bytes of the answer's body that went out."""
    complete: bool = False
    """Whether the whole answer went out."""


@dataclass
class Fault:
    """A rule for the next `times` requests of `method` whose path and range match.

    A number: the proxy answers with this status instead of the server.
    "slow": the body takes `seconds`.
    "hang": no answer until the proxy is cleared.
    "reset": the connection breaks after half of the body.
    "flip": one bit in the middle of the body is changed.
    "truncate": half of the body is sent as if it were complete.
    """

    kind: Kind
    match: str
    """Regular expression, searched in the path."""
    times: float = float("inf")
    seconds: float = 1.0
    method: str = "GET"
    range: str = ""
    """Regular expression, searched in the Range header."""

    def fits(self, request: Request) -> bool:
        """Return whether a request falls under the rule."""
        same_method = self.method == request.method
        return same_method and bool(
            re.search(self.match, request.path) and re.search(self.range, request.range)
        )


class Proxy:
    """Listens on a port of its own; `log` and `rules` may be read and changed at any time."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.log: list[Request] = []
        self.rules: list[Fault] = []
        self._lock = threading.Lock()
        self._cleared = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def clear(self) -> None:
        """Clear the log and the rules, and release hanging requests."""
        self._cleared.set()
        self._cleared = threading.Event()
        self.log, self.rules = [], []

    def close(self) -> None:
        """Stop listening."""
        self.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def requests(self, match: str, method: str = "GET") -> list[Request]:
        """Return the requests so far of this method whose path matches."""
        return [
            request
            for request in list(self.log)
            if request.method == method and re.search(match, request.path)
        ]

    def sent(self, match: str) -> int:
        """Return the body bytes sent so far for paths that match."""
        return sum(request.sent for request in self.requests(match))

    def fault_of(self, request: Request) -> Fault | None:
        """The rule that a request falls under; it is one of its times."""
        with self._lock:
            for fault in self.rules:
                if fault.times > 0 and fault.fits(request):
                    fault.times -= 1
                    return fault
        return None

    def wait(self, seconds: float | None) -> None:
        """Wait for `seconds`, or until `clear`."""
        self._cleared.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are the tests' business; nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream: HTTPConnection | None = None

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing. `Proxy.log` holds the requests."""

    def _handle(self) -> None:
        proxy = self.server.proxy
        request = Request(
            self.command, unquote(self.path.partition("?")[0]), self.headers.get("Range", "")
        )
        proxy.log.append(request)
        body = b"".join(self._body())
        fault = proxy.fault_of(request)
        if fault is None:
            self._answer(request, *self._forward(body))
        elif isinstance(fault.kind, int):
            code = ERRORS[fault.kind]
            error = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
            text = f"<?xml version='1.0'?>{error}".encode()
            self._answer(
                request,
                fault.kind,
                [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))],
                text,
            )
        elif fault.kind == "hang":
            proxy.wait(None)
            self.close_connection = True
        else:
            self._answer(request, *self._forward(body), fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        for attempt in range(2):
            if self._upstream is None:
                self._upstream = HTTPConnection("127.0.0.1", self.server.proxy.upstream_port)
            try:
                response = self._exchange(self._upstream, body)
                return response.status, response.getheaders(), response.read()
            except (HTTPException, OSError):  # the server closed a connection that had been idle
                self._upstream.close()
                self._upstream = None
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _exchange(self, upstream: HTTPConnection, body: bytes) -> HTTPResponse:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP | {"expect", "content-length"}:
                upstream.putheader(name, value)
        if body or self.command in ("PUT", "POST"):
            upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        return upstream.getresponse()

    def _answer(
        self,
        request: Request,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        fault: Fault | None = None,
    ) -> None:
        kind = fault.kind if fault else None
        half = len(body) // 2
        if kind == "flip" and body:
            body = body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]
        if kind == "truncate":
            body = body[:half]
            headers = [
                (name, str(half) if name.lower() == "content-length" else value)
                for name, value in headers
            ]
        request.status = status
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if self.command != "HEAD" and "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "reset":
            self._send(request, body[:half])
            # closed with nothing left to linger for, a connection ends with RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault is not None and kind == "slow":
            piece = max(1, -(-len(body) // PIECES))
            for start in range(0, len(body), piece):
                self._send(request, body[start : start + piece])
                self.server.proxy.wait(fault.seconds / PIECES)
        else:
            self._send(request, body)
        request.complete = True

    def _send(self, request: Request, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)
            request.sent += len(data)
        self.wfile.flush()
