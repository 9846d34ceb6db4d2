"""What must never be printed: values of keys that name secrets, passwords inside URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|(^|_)pass$|(^|_)key$|(^|_)auth$", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://[^/@\s:]*:)([^/@\s]+)@")
_URL_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:passw|secret|token|key)[^=&\s]*=)([^&\s]+)", re.IGNORECASE
)
_USER = re.compile(r"([^:]*:)(.+)", re.DOTALL)  # a user may be written name:password
_SHORTEST = 4  # hiding a shorter one would hide half of an innocent message


def is_secret(name: str) -> bool:
    """Whether a key of that name holds a secret. The name of a file with one is none."""
    return bool(_SECRET_NAME.search(name)) and not name.lower().endswith(("_file", "_path"))


def masked(name: str, value: Any) -> Any:
    """Return a setting as it may be shown; tables and lists are gone through."""
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    if is_secret(name) and value != "":
        return MASK
    if isinstance(value, str) and (user := _with_password(name, value)):
        return f"{user[1]}{MASK}"
    if isinstance(value, (list, tuple)):
        return [masked(name, item) for item in value]
    return _mask_urls(value) if isinstance(value, str) else value


def secrets_in(name: str, value: Any) -> set[str]:
    """Return the secrets among some settings."""
    if isinstance(value, Mapping):
        return set().union(*(secrets_in(str(key), item) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return set().union(*(secrets_in(name, item) for item in value))
    if not isinstance(value, str):
        return set()
    found = {match[1] for pattern in (_URL_PASSWORD, _URL_PARAMETER)
             for match in (m.groups() for m in pattern.finditer(value))}  # fmt: skip
    if user := _with_password(name, value):
        found.add(user[2])
    return found | ({value} if is_secret(name) else set())


def _with_password(name: str, value: str) -> re.Match[str] | None:
    return _USER.fullmatch(value) if name.lower().endswith("user") else None


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a message without those secrets, and without any password in a URL."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return _mask_urls(text)


def _mask_urls(text: str) -> str:
    return _URL_PARAMETER.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1{MASK}@", text))
