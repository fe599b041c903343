"""fsspec file systems by URL, opened once and called with retries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from mlrec.runtime.printable import brief
from mlrec.runtime.urls import SCHEMES, check_url, scheme_of
from mlrec.storage import transfer

# A cached listing would miss what other processes have written since.
REMOTE_OPTIONS: dict[str, Any] = {"use_listings_cache": False}
"""Options of every remote file system."""

# In a forked process fsspec forgets its parent's file systems. Garbage collection there would
# close their connections on the parent's event loop, with a page of errors. This keeps them alive.
_opened: dict[int, Any] = {}


def is_local(url: str) -> bool:
    """Return whether `url` names a file of this machine."""
    return scheme_of(url) == "file"


def local_path(url: str) -> Path:
    """Return the path of a local `url`."""
    return Path(url.removeprefix("file://")).expanduser()


def join(url: str, *parts: str) -> str:
    """Return `url` with path parts appended."""
    return "/".join([url.rstrip("/"), *parts])


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of `url`, and the path of `url` in it.

    Raises:
        ValueError: the URL is not supported, or its scheme needs a package that is not installed.
        RuntimeError: the storage cannot be opened.
    """
    check_url(url)
    scheme = scheme_of(url)
    try:
        # Not fsspec's own url_to_fs: it takes the "::" of an IPv6 address or of a local path for
        # a chain of URLs.
        kind = fsspec.get_filesystem_class(scheme)
        fs = kind(**_options(scheme), **kind._get_kwargs_from_urls(url))
        path = kind._strip_protocol(url)
    except ImportError as error:
        remedy = "install it"
        if scheme in SCHEMES:
            remedy = f"pip install 'mlrec[{SCHEMES[scheme].extra}]'"
        raise ValueError(
            f"{url}: the scheme {scheme!r} needs a package that is not installed "
            f"({brief(error)}); {remedy}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        # Some file systems connect at once, and some need options that only their user knows.
        raise RuntimeError(f"{url}: this storage cannot be opened ({brief(error)})") from error
    if hasattr(fs, "retries"):
        fs.retries = 1  # s3fs and gcsfs: one attempt each, as transfer.py retries
    _opened[id(fs)] = fs
    return fs, path


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "file":
        return {}
    own = SCHEMES[scheme].options if scheme in SCHEMES else {}
    return REMOTE_OPTIONS | own


def call(url: str, method: str, limit_s: float = transfer.TIMEOUT_S, **options: Any) -> Any:
    """Return the result of a file system's method for `url`; remote calls are retried.

    Args:
        limit_s: seconds for one attempt on a remote storage.
    """
    fs, path = open_filesystem(url)
    # Retries are for networks: an error of a local file system would come again.
    if is_local(url):
        return getattr(fs, method)(path, **options)
    return transfer.call(fs, method, path, limit_s=limit_s, **options)
