"""Which URLs name a storage that mlrec reads and writes."""

from __future__ import annotations

import re

import fsspec

from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable

EXTRAS = {
    "s3": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "http": "http",
    "https": "http",
}
"""The remote schemes, each with the extra of setup.py that brings what it needs."""
_WRAPPERS = frozenset(
    {
        "async_wrapper",
        "asynclocal",
        "asyncwrapper",
        "blockcache",
        "cached",
        "dask",
        "data",
        "dir",
        "filecache",
        "generic",
        "libarchive",
        "reference",
        "simplecache",
        "tar",
        "zip",
    }
)
"""Schemes of fsspec that read another file system, or no storage: a layer between it and the cache of mlrec."""
_IN_WORDS = "a folder, or a URL such as s3://, gs://, az:// or http(s)://"
_PATHS = ("/", ".", "~")
"""What a local path begins with where it must not be taken for a URL."""
_MAX_SHOWN_CHARACTERS = 200


def scheme_of(url: str) -> str:
    """Return the scheme of `url`; a plain path has "file"."""
    return url.split("://", 1)[0] if "://" in url else "file"


def check_url(url: str, key: str = "") -> None:
    """Check that `url` is a local path, or a URL of a storage that fsspec knows, without credentials.

    Args:
        key: the key that was given the URL, for messages.

    Raises:
        ValueError: it holds credentials, is chained with "::", or has another scheme; names key, value and schemes.
    """
    check_no_credentials(url, key)
    which = (
        f"{key} is {printable(url, _MAX_SHOWN_CHARACTERS)!r}"
        if key
        else printable(url, _MAX_SHOWN_CHARACTERS)
    )
    # in brackets: an IPv6 address
    if "::" in re.sub(r"\[[^\]]*\]", "", url) and not url.startswith(_PATHS):
        raise ValueError(
            f"{which}: URLs chained with '::' are not supported; unpack or copy the files and name {_IN_WORDS}"
        )
    if scheme_of(url) not in {*EXTRAS, *fsspec.available_protocols()} - _WRAPPERS:
        raise ValueError(
            f"{which}: unknown storage scheme {printable(scheme_of(url), 60)!r}; name {_IN_WORDS}"
        )
