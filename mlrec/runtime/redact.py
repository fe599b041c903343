"""Redacts credentials in everything that is logged, stored or sent."""

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
"""A user and a password, up to the last @: a secret may hold slashes."""
_USER_OF_URL = re.compile(r"(:/{1,3})[^/@\s]+@")
_PASSWORD_WITHOUT_SCHEME = re.compile(r"(?<![^\s'\"=(,])()[^\s/:@'\"=(,]+:[^\s/@'\"]+@(?=[^\s/@])")
"""user:password@host/path"""
_QUERY_OF_URL = re.compile(r"(?<=://)([^?#\s]*)(?:\?\S*|#\S*=\S*)")
_AUTHORIZATION = re.compile(
    r"""(authorization['"]?\s*[:=]\s*['"]?)"""
    r"""(?:(?:basic|bearer|digest|token|aws4-hmac-sha256)\s+)?[^'"\n]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)[\w~+/.=-]{8,}", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"""((?:secret|passwd|password|passphrase|pwd|token|credentials?|api_?key|access_?key|"""
    r"""account_?key|private_?key|signature)(?:_?id)?['"]?\s*(?:=|:(?!//))\s*)"""
    r"""(?:"[^"]*"|'[^']*'|[^\s'",;&)}\]]+)""",
    re.IGNORECASE,
)
"""password=..., "aws_secret_access_key": "..." and similar assignments within a message."""


def is_secret_name(name: str) -> bool:
    """Return whether a key, a variable or a query parameter of this name holds a credential."""
    words = [word.lower() for word in _WORD.findall(name)]
    for word, next_word in pairwise([*words, ""]):
        # pad_token_id is an entry of a vocabulary
        is_vocabulary = word == "token" and next_word in ("id", "ids")
        if word in _SECRET_WORDS and not is_vocabulary:
            return True
    return False


def _is_secret(name: str, value: Any) -> bool:
    if not value or not is_secret_name(name):
        return False
    # num_key_value_heads=4 is not a secret, but a password may be a number.
    return not isinstance(value, int | float) or "pass" in name.lower()


def scrub(value: Any) -> Any:
    """Return `value` with credentials replaced by "***".

    These are texts under secret names in mappings, users, passwords and queries of URLs,
    authorization headers, and assignments such as `password=...` within messages.
    """
    # Configurations and metadata are nested; every level is searched.
    if isinstance(value, Mapping):
        redacted = {}
        for key, entry in value.items():
            redacted[key] = _REDACTED if _is_secret(str(key), entry) else scrub(entry)
        return redacted
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
