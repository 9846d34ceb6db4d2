"""What a hostile or broken neighbour may send: arbitrary values, and valid ones made wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from leadertag.errors import LeaderTagError

NASTY = (
    "", "\0", "\n", "\r\n", "\x1b[2J\x1b[31m", "\x9b31m", "\u202e", "\ud800", "\ufeff", "é" * 300,
    "..", "a/b", "?x=1", "%00", "null", "true", "-1", "1e999", "NaN", "9" * 4301, "x" * 2_000,
)  # fmt: skip
"""Texts that have broken programs before."""
NUMBERS = (-1, 0, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 1.5, 1e308, float("inf"), float("nan"))

texts = st.sampled_from(NASTY) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
"""Whatever JSON can say, and Python's reader takes."""


def hostile(examples: int) -> Callable[[Any], Any]:
    """Settings of a property test: so many examples, however slow one may be on a busy host."""
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck),
        database=None,
    )  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A JSON document of which some parts were replaced, removed, added or nested deeper."""
    changed = {"root": copy.deepcopy(document)}
    for _ in range(draw(st.integers(1, most))):
        holder, key = draw(st.sampled_from(_places(changed)))
        change = draw(st.sampled_from(("replace", "remove", "add", "nest")))
        if change == "remove" and holder is not changed:
            del holder[key]
        elif change == "add" and isinstance(holder[key], dict):
            holder[key][draw(texts)] = draw(values)
        elif change == "nest":
            holder[key] = [holder[key]]
        else:
            holder[key] = draw(values)
    return changed["root"]


def _places(holder: Any) -> list[tuple[Any, Any]]:
    """Everything that can be replaced: a container and a key or index in it."""
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    found = [(holder, key) for key in keys]
    for key in keys:
        if isinstance(holder[key], (dict, list)):
            found += _places(holder[key])
    return found


@st.composite
def encoded(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> bytes:
    """Bytes of JSON: sometimes in another encoding, cut, doubled, with a key twice, or deep."""
    text = json.dumps(draw(documents))
    kind = draw(st.sampled_from(
        ("plain", "plain", "utf-16", "utf-32", "latin-1", "bom", "cut", "twice", "doubled", "deep",
         "endless", "spaced")
    ))  # fmt: skip
    if kind in ("utf-16", "utf-32", "latin-1"):
        return text.encode(kind)
    raw = text.encode()
    return {
        "bom": lambda: b"\xef\xbb\xbf" + raw,
        "cut": lambda: raw[: draw(st.integers(0, len(raw)))],
        "twice": lambda: raw[:-1] + b"," + raw[1:],  # of an object: each key twice
        "doubled": lambda: raw + raw,
        "deep": lambda: b"[" * 20_000 + raw + b"]" * 20_000,
        "endless": lambda: raw.replace(b"1", b"1e999"),
        "spaced": lambda: b" " * 20_000 + raw,
    }.get(kind, lambda: raw)()


def bytes_like(document: Any) -> st.SearchStrategy[bytes]:
    """Bytes in the place of that document: valid, nearly valid, or anything."""
    return encoded(st.just(document) | mutated(document) | values) | st.binary(max_size=60)


def outcome(call: Callable[[], Any]) -> Any:
    """What the call returns, or its error out of leadertag's tree: checked to be one line.

    Any other exception goes through, and fails the test.
    """
    try:
        return call()
    except LeaderTagError as error:
        raised = error
    assert str(raised)
    assert "\n" not in str(raised), repr(str(raised))
    return raised
