"""A server with the published files of MicroLens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from published_files import published
from published_server import Site, serve

from shards_tools.download import fetch, http


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(http, "TIMEOUT_S", 5.0)
    monkeypatch.setattr(fetch, "BLOCK_BYTES", 1000)


@pytest.fixture
def site(no_pauses: None) -> Iterator[Site]:
    with serve(Site(published())) as site:
        yield site
