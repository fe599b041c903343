"""Refuses URLs that hold a password, a token or a signature.

URLs end up in logs, reports and run folders, where credentials must not be.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mlrec.runtime.redact import is_secret_name, scrub

_URL = re.compile(r"([a-z][a-z0-9+.-]*):/+([^\s/?#]*)([^\s]*)", re.IGNORECASE)
_URL_WITHOUT_SCHEME = re.compile(
    r"(?:^|[\s=,'\"])(?://[^\s/:@]+:[^\s@]+|[^\s/:@=,'\"]+:[^\s/@]+)@[^\s/@]"
)
"""//user:password@host and user:password@host: a URL without its scheme."""
_PARAMETER_NAME = re.compile(r"[?#&;]([^=?#&;\s]+)=[^&;#\s]")
_AZURE_SCHEMES = ("az", "abfs", "abfss", "adl", "wasb", "wasbs")
"""Schemes of URLs with container@account, which names no user."""
_SCHEMES_WITH_USER = ("ssh", "sftp", "ftp", "hdfs", "webhdfs", "smb")
"""Schemes whose URLs may name a user, as long as they hold no password."""
_REMEDIES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
    "http": "put user and password into ~/.netrc (or the file that NETRC names)",
}
_REMEDY_KEYS = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    **dict.fromkeys(_AZURE_SCHEMES, "az"),
    "https": "http",
}


def check_no_credentials(text: str, where: str = "") -> None:
    """Refuse a text that holds a URL with credentials.

    Args:
        where: configuration key of the text, for the message; "" quotes the text, redacted.

    Raises:
        ValueError: the text holds a password, a token or a signature. The message does not repeat
            it, and names the environment variables to use instead.
    """
    if _URL_WITHOUT_SCHEME.search(text):
        raise _refusal(text, where, "")
    # Chained URLs such as zip://x::http://user:password@host are checked part by part as well.
    for part in (text, *text.split("::")):
        for match in _URL.finditer(part):
            scheme = match[1].lower()
            host = unquote(match[2])
            rest = unquote(match[3])
            names = _PARAMETER_NAME.findall(rest)
            if _has_user(scheme, host, rest) or any(map(is_secret_name, names)):
                raise _refusal(text, where, scheme)


def _refusal(text: str, where: str, scheme: str) -> ValueError:
    key = _REMEDY_KEYS.get(scheme, scheme)
    remedy = _REMEDIES.get(
        key, "let the storage's own configuration or environment variables hold them"
    )
    subject = f"{where}: the URL holds" if where else f"the URL {scrub(text)} holds"
    return ValueError(
        f"{subject} credentials, which would end up in logs and reports. "
        f"Leave them out and {remedy}"
    )


def _has_user(scheme: str, host: str, rest: str) -> bool:
    """Return whether a URL names a user whose presence is a secret, or a password."""
    user, at, _ = host.rpartition("@")
    # container@account, where only a ":" makes the container a user with a password
    if at and scheme in _AZURE_SCHEMES:
        return ":" in user
    if at:
        return ":" in user or scheme not in _SCHEMES_WITH_USER
    # A slash in a password ends what looks like the host: s3://KEY:SEC/RET@bucket. Then its
    # "port" is not a number.
    port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else ""
    return bool(port) and not port.isdecimal() and "@" in rest
