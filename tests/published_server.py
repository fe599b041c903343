"""A web server with the published layout of MicroLens, which may break connections and lie."""

from __future__ import annotations

import hashlib
import html
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

Style = Literal["apache", "nginx", "none", "app"]
"""Index pages; app answers every unknown path with one web page, as single-page sites do."""


@dataclass
class Site:
    """Files of a server by path, and its faults."""

    files: dict[str, bytes]
    style: Style = "apache"
    has_ranges: bool = True
    has_validators: bool = True
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Statuses of the next GET requests of a path, instead of its content."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which the connection breaks in the next GET requests of a path."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range header of each request."""
    url: str = ""

    def gets(self) -> Counter[str]:
        """Return the number of GET requests by path."""
        return Counter(path for method, path, _ in self.requests if method == "GET")

    def index(self, folder: str) -> bytes | None:
        """Return the index page of a folder, or None."""
        names: dict[str, int | None] = {}
        for path, content in self.files.items():
            if path.startswith(folder):
                name, slash, _ = path.removeprefix(folder).partition("/")
                names[name + slash] = None if slash else len(content)
        if not names or self.style in ("none", "app"):
            return None
        lines = [_line(self.style, name, size) for name, size in sorted(names.items())]
        sorting = '<a href="?C=N;O=D">Name</a> <a href="/">Parent</a> <a href="../">../</a>'
        page = f"<html><h1>Index</h1><pre>{sorting}\n" + "\n".join(lines) + "</pre></html>"
        return page.encode()


def _line(style: Style, name: str, size: int | None) -> str:
    link = f'<a href="{html.escape(quote(name))}">{html.escape(name[:20])}</a>'
    if style == "nginx":
        return f"{link}   31-May-2024 10:00  {'-' if size is None else size:>20}"
    shown = "-" if size is None else f"{size / 1024:.1f}K" if size > 1023 else size
    return f"{link}  2024-05-31 10:00  {shown}  &nbsp;"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with what the site has."""
        self._answer()

    def _answer(self) -> None:
        self._send(*self._chosen())

    def _chosen(self) -> tuple[int, bytes, dict[str, str], str]:
        """Return status, body and headers of the answer, and the path of the file in it."""
        site = self.server.site
        path = unquote(urlsplit(self.path).path).lstrip("/")
        ranged = self.headers.get("Range", "")
        site.requests.append((self.command, path, ranged))
        if self.headers["User-Agent"].startswith("Python-urllib"):
            return 403, b"", {}, ""
        statuses = site.statuses.get(path)
        if statuses and self.command == "GET":
            return statuses.pop(0), b"", {"Retry-After": "0"}, ""
        if path.endswith("/") or not path:
            page = site.index(path)
            if page is not None:
                return 200, page, {"Content-Type": "text/html;charset=UTF-8"}, path
        if path not in site.files:
            page = b"<html>not here</html>"
            status = 200 if site.style == "app" else 404
            return status, page, {"Content-Type": "text/html"}, ""
        content = site.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"Content-Type": "application/octet-stream"}
        if site.has_validators:
            headers |= {"ETag": tag, "Last-Modified": formatdate(0, usegmt=True)}
        match = re.fullmatch(r"bytes=(\d+)-", ranged)
        if not match or not site.has_ranges or self.headers.get("If-Range", tag) != tag:
            return 200, content, headers, path
        start = int(match[1])
        if start >= len(content):
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}, ""
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206, content[start:], headers, path

    def _send(self, status: int, body: bytes, headers: dict[str, str], path: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        breaks = self.server.site.breaks.get(path)
        self.wfile.write(body[: breaks.pop(0)] if breaks else body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve a site on this machine until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.site = site
        site.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
