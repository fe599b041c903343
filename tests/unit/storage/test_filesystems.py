"""URLs of storages: which ones are accepted, and what the others are told."""

from __future__ import annotations

import re
import sys

import pytest

from mlrec import storage
from mlrec.config import load
from mlrec.storage.filesystems import open_filesystem

SCHEMES_IN_WORDS = "name a folder, or a URL such as s3://, gs://, az:// or http(s)://"
UNSUPPORTED = [
    ("ftps://host/x", f"unknown storage scheme 'ftps'; {SCHEMES_IN_WORDS}"),
    ("zip://x", "unknown storage scheme 'zip'"),
    ("simplecache:///tmp/x", "unknown storage scheme 'simplecache'"),
    ("HTTPS://host/x", "unknown storage scheme 'HTTPS'"),
    ("zip://x::http://host/x", "URLs chained with '::' are not supported"),
    ("simplecache::/tmp/x", "URLs chained with '::' are not supported"),
    ("filecache::s3://bucket/x", "URLs chained with '::' are not supported"),
    ("x.zip::y", "URLs chained with '::' are not supported"),
]


@pytest.mark.parametrize(("url", "words"), UNSUPPORTED)
@pytest.mark.parametrize(
    "key",
    ["data.url", "item.options.id/embedding.checkpoint", "item.options.id/embedding.features"],
)
def test_config_with_an_unsupported_url_names_key_value_and_schemes(
    url: str, words: str, key: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{key} is {re.escape(repr(url))}: {re.escape(words)}"):
        load([], [f"{key}={url}"])


@pytest.mark.parametrize(("url", "words"), UNSUPPORTED)
@pytest.mark.parametrize("function", ["exists", "read_bytes", "list_files", "size_of", "remove"])
def test_storage_with_an_unsupported_url_names_value_and_schemes(
    url: str, words: str, function: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(url)}: {re.escape(words)}"):
        getattr(storage, function)(url)


def test_storage_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(
        RuntimeError, match=r"^ftp://127\.0\.0\.1:1/x: this storage cannot be opened \(.*refused"
    ):
        storage.exists("ftp://127.0.0.1:1/x")


def test_config_with_another_scheme_of_fsspec_is_accepted() -> None:
    assert load([], ["data.url=hf://datasets/a/b"]).data.url == "hf://datasets/a/b"


def test_open_filesystem_of_an_ipv6_address_keeps_the_host() -> None:
    _, path = open_filesystem("http://[::1]:80/set")
    assert path == "http://[::1]:80/set"


def test_config_with_start_from_at_a_url_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^train\.start_from is 's3://bucket/run'; it must be a folder on this machine",
    ):
        load([], ["train.start_from=s3://bucket/run"])


def test_storage_of_a_scheme_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        ValueError, match=r"the scheme 'gs' needs a package .*pip install 'mlrec\[gs\]'"
    ):
        storage.read_bytes("gs://bucket/x")
