"""The files of a data set on the server, from its index pages or by their known names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from threading import Event
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from shards_tools.download import http
from shards_tools.download.published import MEDIA_PARTS, known_names

MAX_PAGE_BYTES = 256 << 20
MAX_DEPTH = 4
"""Folders in folders that are looked into."""
MAX_SPLIT_PARTS = 1000
_SIZE = re.compile(r"(?:^|\s)(?P<number>\d+(?:\.\d+)?)\s?(?P<unit>[KMGT]?)(?:i?B)?$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Entry(NamedTuple):
    """A line of an index page."""

    name: str
    url: str
    is_folder: bool
    size: int | None
    """Bytes; None where they are not known."""
    is_exact: bool = True
    """False for a size that the page has rounded, such as 1.2M."""


class _Links(HTMLParser):
    """Collect the links of a page, and the text after each up to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, list[str]]] = []
        self.is_complete = False
        self._is_inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        href = dict(attributes).get("href")
        if tag == "a" and href:
            self.links.append((href, []))
            self._is_inside = True
        elif self.links and tag in ("td", "tr"):
            self.links[-1][1].append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = self._is_inside and tag != "a"
        self.is_complete = self.is_complete or tag == "html"

    def handle_data(self, data: str) -> None:
        if self.links and not self._is_inside:
            self.links[-1][1].append(data)


def list_page(url: str, stopping: Event) -> list[Entry]:
    """Return what the index page of a folder lists, sorted by name.

    Raises:
        RefusedError: there is no such page.
    """
    page, base = http.retried(lambda: _read_page(url), stopping)
    entries: dict[str, Entry] = {}
    for href, texts in page:
        entry = _entry(base, href, "".join(texts))
        if entry is not None:
            entries[entry.name] = entry
    return [entries[name] for name in sorted(entries)]


def _read_page(url: str) -> tuple[list[tuple[str, list[str]]], str]:
    """Return the links of a page, and its URL after redirections."""
    with http.open_url(url) as answer:
        if not http.is_web_page(answer):
            raise http.RefusedError("it is not an index page")
        content = b""
        while block := http.read(answer, 1 << 20):
            content += block
            if len(content) > MAX_PAGE_BYTES:
                raise http.RefusedError(f"its index page is larger than {MAX_PAGE_BYTES:,} bytes")
        base = answer.geturl()
    links = _Links()
    links.feed(content.decode(errors="replace"))
    # a page that was cut would silently lack files
    if not links.is_complete:
        raise http.RetryableError("its index page is cut off")
    return links.links, base


def _entry(base: str, href: str, text: str) -> Entry | None:
    """Return the entry of a link; None for one that leads out of the folder, or sorts it."""
    url = urlsplit(urljoin(base, href))._replace(query="", fragment="").geturl()
    if "?" in href or not url.startswith(base):
        return None
    path = url.removeprefix(base)
    name = unquote(path.removesuffix("/"))
    # names come from outside, and become names of local files
    is_safe = name.isprintable() and not name.startswith(".") and not set(name) & set("/\\:")
    if not name or not is_safe:
        return None
    # the size is at the end of the line: "2024-05-31 10:00  1.2M"
    match = _SIZE.search(text.replace("\xa0", " ").strip())
    if match is None or path.endswith("/"):
        return Entry(name, url, path.endswith("/"), None)
    unit = match["unit"].upper()
    return Entry(name, url, False, int(float(match["number"]) * _UNITS[unit]), not unit)


def list_tree(entry: Entry, stopping: Event, depth: int = 1) -> list[tuple[str, Entry]]:
    """Return the files below a folder with their paths relative to it.

    Raises:
        RefusedError: a folder has no index page, or there are too many in each other.
    """
    if depth > MAX_DEPTH:
        raise http.RefusedError(f"more than {MAX_DEPTH} folders are in each other")
    files: list[tuple[str, Entry]] = []
    for inner in list_page(entry.url, stopping):
        if inner.is_folder:
            below = list_tree(inner, stopping, depth + 1)
            files += [(f"{inner.name}/{path}", file) for path, file in below]
        else:
            files.append((inner.name, inner))
    return files


def size_of(url: str, stopping: Event) -> int | None:
    """Return the size of a file in bytes; None if the server does not tell.

    Raises:
        RefusedError: the server does not have it.
    """

    def ask() -> int | None:
        with http.open_url(url, "HEAD") as answer:
            if http.is_web_page(answer):
                raise http.RefusedError("the server answers with a web page")
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None

    return http.retried(ask, stopping)


def probe(base_url: str, prefix: str, stopping: Event) -> list[Entry]:
    """Return what a server without an index page has of the files and folders that are known."""
    entries = []
    for name in known_names(prefix):
        entries += _probe_file(base_url, name, stopping)
    for part in MEDIA_PARTS:
        stem = f"{prefix}_{part}"
        archive = _probe_file(base_url, f"{stem}.zip", stopping)
        for number in range(1, MAX_SPLIT_PARTS if archive else 0):
            split_part = _probe_file(base_url, f"{stem}.z{number:02d}", stopping)
            if not split_part:
                break
            archive += split_part
        entries += archive or _probe_folder(base_url, stem, stopping)
    return entries


def _probe_file(base_url: str, name: str, stopping: Event) -> list[Entry]:
    url = base_url + quote(name)
    try:
        return [Entry(name, url, False, size_of(url, stopping))]
    except http.RefusedError:
        return []


def _probe_folder(base_url: str, name: str, stopping: Event) -> list[Entry]:
    url = f"{base_url}{quote(name)}/"
    try:
        return [Entry(name, url, True, None)] if list_page(url, stopping) else []
    except http.RefusedError:
        return []
