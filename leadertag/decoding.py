"""Reading what stands in a backend: it may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a value may raise that no leadertag has written."""
LONGEST_TEXT = 4096
"""Characters of one text. No leadertag writes a longer one."""


def text(value: str) -> str:
    """Return a text from outside (a hook's last words) as it may be written into a backend."""
    return value.encode(errors="replace").decode().replace("\0", " ")[:LONGEST_TEXT]


def typed_fields(data: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the named fields of a JSON object, each of its kind.

    Raises KeyError, TypeError, ValueError or OverflowError for what is missing or of another
    kind; a bool is no number, and an integer counts as a float.
    """
    return {name: kind(_typed(data[name], kind)) for name, kind in kinds.items()}


def _typed(value: Any, kind: type) -> Any:
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    if isinstance(value, str) and not _is_text(value):
        raise ValueError("no text that leadertag writes")
    return value


def _is_text(value: str) -> bool:
    """Whether it may go into an environment, a file and a registry."""
    if len(value) > LONGEST_TEXT or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def are_texts(value: object) -> bool:
    """Whether a decoded value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_text_map(value: object) -> bool:
    """Whether a decoded value is an object of strings."""
    return isinstance(value, dict) and are_texts([*value.values()])


def is_number(value: object) -> bool:
    """Whether a decoded value is a number as ports and terms are: no bool, nothing huge."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
