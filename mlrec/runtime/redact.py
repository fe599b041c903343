"""Redact credentials in whatever is logged, kept or sent away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_REDACTED = "***"
_SECRET_WORDS = frozenset(
    {
        "secret",
        "secrets",
        "password",
        "passwd",
        "passphrase",
        "pass",
        "pw",
        "pwd",
        "auth",
        "authorization",
        "bearer",
        "jwt",
    }
    | {
        "token",
        "credential",
        "credentials",
        "key",
        "apikey",
        "accesskey",
        "accountkey",
        "privatekey",
        "sas",
        "sig",
        "signature",
    }
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""A word of a name such as X-Amz-Signature, AWSAccessKeyId or api_key."""

_PASSWORD_OF_URL = re.compile(r"(:/{1,3}|(?<![^\s'\"=(,])//)[^\s'\"@/][^\s'\"@]*:[^\s'\"]*@")
"""Up to the last @, for a secret may hold slashes."""
_USER_OF_URL = re.compile(r"(:/{1,3})[^/@\s]+@")
_PASSWORD_WITHOUT_SCHEME = re.compile(r"(?<![^\s'\"=(,])()[^\s/:@'\"=(,]+:[^\s/@'\"]+@(?=[^\s/@])")
"""user:password@host/path"""
_QUERY_OF_URL = re.compile(r"(?<=://)([^?#\s]*)(?:\?\S*|#\S*=\S*)")
_AUTHORIZATION = re.compile(
    r"""(authorization['"]?\s*[:=]\s*['"]?)(?:(?:basic|bearer|digest|token|aws4-hmac-sha256)\s+)?[^'"\n]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)[\w~+/.=-]{8,}", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"""((?:secret|passwd|password|passphrase|pwd|token|credentials?|api_?key|access_?key|account_?key|private_?key|"""
    r"""signature)(?:_?id)?['"]?\s*(?:=|:(?!//))\s*)(?:"[^"]*"|'[^']*'|[^\s'",;&)}\]]+)""",
    re.IGNORECASE,
)
"""password=..., "aws_secret_access_key": "..." and their kin, within a message."""


def is_secret_name(name: str) -> bool:
    """Return whether a key, a variable or a query parameter of this name holds a credential."""
    words = [word.lower() for word in _WORD.findall(name)]
    # pad_token_id is a number of a vocabulary
    return any(
        word in _SECRET_WORDS and not (word == "token" and after in ("id", "ids"))
        for word, after in pairwise([*words, ""])
    )


def _is_secret(name: str, entry: Any) -> bool:
    # num_key_value_heads: 4 is no secret; a number as a password may be
    return (
        bool(entry)
        and is_secret_name(name)
        and (not isinstance(entry, int | float) or "pass" in name.lower())
    )


def scrub(value: Any) -> Any:
    """Return `value` without credentials, which become "***".

    Redacted are texts under secret names in mappings; user, password and query of URLs; authorization headers; and
    assignments such as `password=...` within messages.
    """
    if isinstance(value, Mapping):
        return {
            key: _REDACTED if _is_secret(str(key), entry) else scrub(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [scrub(entry) for entry in value]
    if isinstance(value, str):
        return _scrub_text(value)
    return value


def _scrub_text(text: str) -> str:
    for pattern in (_PASSWORD_OF_URL, _USER_OF_URL, _PASSWORD_WITHOUT_SCHEME):
        text = pattern.sub(rf"\1{_REDACTED}@", text)
    text = _QUERY_OF_URL.sub(rf"\1?{_REDACTED}", text)
    for pattern in (_AUTHORIZATION, _BEARER, _ASSIGNED):
        text = pattern.sub(rf"\1{_REDACTED}", text)
    return text
