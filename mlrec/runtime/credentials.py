"""URLs that hold a password, a token or a signature: refused, for URLs end up in logs, reports and run folders."""

from __future__ import annotations

import re
from urllib.parse import unquote

from mlrec.runtime.redact import is_secret_name, scrub

_URL = re.compile(r"([a-z][a-z0-9+.-]*):/+([^\s/?#]*)([^\s]*)", re.IGNORECASE)
_URL_WITHOUT_SCHEME = re.compile(
    r"(?:^|[\s=,'\"])(?://[^\s/:@]+:[^\s@]+|[^\s/:@=,'\"]+:[^\s/@]+)@[^\s/@]"
)
"""//user:password@host and user:password@host: a URL whose scheme was forgotten."""
_NAME = re.compile(r"[?#&;]([^=?#&;\s]+)=[^&;#\s]")
_CONTAINER_AT_HOST = ("az", "abfs", "abfss", "adl", "wasb", "wasbs")
"""Schemes that write container@account: no user."""
_NAMED_USER = ("ssh", "sftp", "ftp", "hdfs", "webhdfs", "smb")
"""Schemes in which a user without a password is no secret."""
_REMEDIES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
    "http": "put user and password into ~/.netrc (or the file that NETRC names)",
}
_KIND = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    **dict.fromkeys(_CONTAINER_AT_HOST, "az"),
    "https": "http",
}


def check_no_credentials(text: str, where: str = "") -> None:
    """Refuse a text that holds a URL with credentials.

    Args:
        where: the key, for the message; "" names the text itself, redacted.

    Raises:
        ValueError: there is a password, a token or a signature; the message does not repeat it, and names the
            environment variables to use.
    """
    if _URL_WITHOUT_SCHEME.search(text):
        raise _refusal(text, where, "")
    # the URLs of a chain too, such as zip://x::http://user:password@host
    for match in (match for part in (text, *text.split("::")) for match in _URL.finditer(part)):
        scheme, host, rest = match[1].lower(), unquote(match[2]), unquote(match[3])
        if _has_user(scheme, host, rest) or any(
            is_secret_name(name) for name in _NAME.findall(rest)
        ):
            raise _refusal(text, where, scheme)


def _refusal(text: str, where: str, scheme: str) -> ValueError:
    remedy = _REMEDIES.get(
        _KIND.get(scheme, scheme),
        "let the storage's own configuration or environment variables hold them",
    )
    which = f"{where}: the URL holds" if where else f"the URL {scrub(text)} holds"
    return ValueError(
        f"{which} credentials, which would end up in logs and reports. Leave them out and {remedy}"
    )


def _has_user(scheme: str, host: str, rest: str) -> bool:
    user, at, _ = host.rpartition("@")
    if at and scheme in _CONTAINER_AT_HOST:
        return ":" in user
    if at:
        return ":" in user or scheme not in _NAMED_USER
    # a password with a slash in it ends what looks like the host: s3://KEY:SEC/RET@bucket
    port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else ""
    return bool(port) and not port.isdecimal() and "@" in rest
