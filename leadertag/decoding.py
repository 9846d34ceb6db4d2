"""Reading what stands in a backend: it may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
    return value
