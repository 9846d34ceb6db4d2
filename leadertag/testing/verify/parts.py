"""The contracts' tests in words: which part a test belongs to, what it wants, and in what order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from leadertag.testing.contracts.base import Contract

_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def part_of(item: pytest.Item) -> str:
    """Return the part of the contract: ``holding``, ``beside the lock``; ``""`` for other tests.

    What a contract says outside of its parts is ``in general``.
    """
    home = _home(item)
    if home is None:
        return ""
    name = home.__name__.strip("_").removesuffix("Contract").removesuffix("Part")
    part = _CAPITALS.sub(" ", name).lower()
    return "in general" if home.__name__.endswith("Contract") else part


def wanted_by(item: pytest.Item) -> str:
    """Return what a test wants, in words: its name, and the first line of its docstring."""
    words = _function(item).removeprefix("test_").replace("_", " ")
    case = item.name.partition("[")[2].removesuffix("]")
    docstring = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip()
    first = docstring.partition("\n")[0].rstrip(".")
    return f"{words}{f' [{case}]' if case else ''}{f' ({first})' if first else ''}"


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return tests in the order in which a plugin is written.

    pytest begins with the last part of a contract; here each comes in its place, so that the
    first failure is about the verb to be written first.
    """
    items = list(items)
    classes = list(dict.fromkeys(getattr(item, "cls", None) for item in items))

    def rank(item: pytest.Item) -> tuple[int, int, int]:
        home = _home(item)
        cls = getattr(item, "cls", None)
        if cls is None or home is None:
            return classes.index(cls), 0, 0
        return classes.index(cls), cls.__mro__.index(home), list(vars(home)).index(_function(item))

    return sorted(items, key=rank)


def _function(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", None) or item.name)


def _home(item: pytest.Item) -> type | None:
    """Return the class that defines the test, where it is one of a contract."""
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, Contract):
        return None
    homes: Iterator[type] = (home for home in cls.__mro__ if _function(item) in vars(home))
    return next(homes)
