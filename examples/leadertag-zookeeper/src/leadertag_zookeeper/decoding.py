"""Reading what stands in a node: it may be anybody's."""

from __future__ import annotations

WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a value may raise that no leadertag has written."""


def are_texts(value: object) -> bool:
    """Whether a decoded value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_text_map(value: object) -> bool:
    """Whether a decoded value is an object of strings."""
    return isinstance(value, dict) and are_texts([*value.values()])


def is_number(value: object) -> bool:
    """Whether a decoded value is a number as ports and terms are: no bool, nothing huge."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
