"""The storage schemes that mlrec reads and writes.

To add a scheme, add a row to SCHEMES here and its package as an extra in setup.py. Other schemes
of fsspec work as well, without an extra to install them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable


@dataclass(frozen=True)
class Scheme:
    """A remote storage scheme."""

    extra: str
    """Extra of setup.py that installs the scheme's package."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of its fsspec file system."""


# transfer.py retries. Left alone, botocore and s3fs would turn each of its attempts into 25
# requests.
_ONE_ATTEMPT = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
# Without this, aiohttp would ignore ~/.netrc, where user and password belong, and the proxy
# variables of the environment.
_NETRC_AND_PROXIES = {"client_kwargs": {"trust_env": True}}

SCHEMES = {
    "s3": Scheme("s3", _ONE_ATTEMPT),
    "gs": Scheme("gs"),
    "gcs": Scheme("gs"),
    "az": Scheme("az"),
    "abfs": Scheme("az"),
    "abfss": Scheme("az"),
    "http": Scheme("http", _NETRC_AND_PROXIES),
    "https": Scheme("http", _NETRC_AND_PROXIES),
}

# A layer between the storage and mlrec's own cache would hide where the bytes come from.
_UNSUPPORTED_SCHEMES = frozenset(
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
"""fsspec schemes that wrap another file system, or are no storage."""
_SUPPORTED = "a folder, or a URL such as s3://, gs://, az:// or http(s)://"
_PATH_PREFIXES = ("/", ".", "~")
"""Beginnings of local paths, which may contain "::"."""
_MAX_URL_CHARACTERS = 200
_MAX_SCHEME_CHARACTERS = 60


def scheme_of(url: str) -> str:
    """Return the scheme of `url`; a plain path has "file"."""
    return url.split("://", 1)[0] if "://" in url else "file"


def check_url(url: str, key: str = "") -> None:
    """Check that `url` is a local path or a supported URL without credentials.

    Args:
        key: configuration key of the URL, for messages.

    Raises:
        ValueError: the URL holds credentials, is chained with "::", or has an unsupported scheme.
            The message names key, value and schemes.
    """
    check_no_credentials(url, key)
    shown_url = printable(url, _MAX_URL_CHARACTERS)
    subject = f"{key} is {shown_url!r}" if key else shown_url
    without_ipv6_address = re.sub(r"\[[^\]]*\]", "", url)
    if "::" in without_ipv6_address and not url.startswith(_PATH_PREFIXES):
        raise ValueError(
            f"{subject}: URLs chained with '::' are not supported. "
            f"Unpack or copy the files, and name {_SUPPORTED}"
        )
    scheme = scheme_of(url)
    # imported late, so that --help is fast
    import fsspec

    is_known = scheme in SCHEMES or scheme in fsspec.available_protocols()
    if not is_known or scheme in _UNSUPPORTED_SCHEMES:
        shown_scheme = printable(scheme, _MAX_SCHEME_CHARACTERS)
        raise ValueError(f"{subject}: unknown storage scheme {shown_scheme!r}; name {_SUPPORTED}")
