"""Text without credentials, for whatever is logged, kept or sent away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECRET_NAME = re.compile(r"(^|[_-])(secret|password|token|credentials?|key|sas|signature)([_-]|$)", re.IGNORECASE)
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY_OF_URL = re.compile(r"(?<=://)([^?\s]*)\?\S*")


def scrub(value: Any) -> Any:
    """`value` without credentials: secret keys of mappings, and user, password and query of URLs, become "***"."""
    if isinstance(value, Mapping):
        return {key: "***" if _SECRET_NAME.search(str(key)) and entry else scrub(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(entry) for entry in value]
    if isinstance(value, str):
        return _QUERY_OF_URL.sub(r"\1?***", _USER_OF_URL.sub("***@", value))
    return value
