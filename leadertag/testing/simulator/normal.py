"""Normal forms: two states that differ in nothing but names for numbers and times are one.

Terms and indexes count only by their order, so they are renumbered from 1; so are the serials
of one member's effects. Times are told relative to now already (see ``small``); those long past
are all the same. What only people read (reasons, the history's bookkeeping) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

from leadertag.election import events as ev
from leadertag.election.policy import Policy
from leadertag.election.standing import Standing
from leadertag.model import Check, Gate

Numbers = Mapping[int, int]
Get = Callable[[Any], Any]

_NUMBERS = frozenset({
    "term", "index", "gate", "seen_term", "followed", "free_index", "released_index", "acted",
    "acts", "top",
})  # fmt: skip
"""Fields that hold a term or an index, in whatever value."""
_UNREAD: Mapping[str, Any] = {
    "reason": "", "led": "", "led_term": 0, "ended_by": "", "vacant_since": None,
    "succession": None, "incarnation": 0, "query_due": 1e9, "failures": 0, "shut_failures": 0,
    "overtaken": None,
}  # fmt: skip
"""Fields on which no promise hangs, and what they are made to be."""
_FIELDS: dict[type, tuple[str, ...]] = {}
_GETTERS: dict[type, Get] = {}
_PLAIN: set[type] = {str, int, float, bool, bytes, type(None)}
"""Types whose values are their own normal form."""


def _fields(kind: type) -> tuple[str, ...]:
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(f.name for f in fields(kind) if f.name != "policy")
    return names


def freeze(value: Any) -> Any:
    """Return something hashable that is equal for equal values, and for no others."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple:
        return tuple(map(freeze, value))
    getter = _GETTERS.get(kind)
    if getter is not None:
        return (kind, *map(freeze, getter(value)))
    return _freeze_first(value, kind)


def _freeze_first(value: Any, kind: type) -> Any:
    """Freeze a value of a kind that is seldom, or was not met before."""
    if isinstance(value, Mapping):
        return tuple((key, freeze(item)) for key, item in sorted(value.items()))
    if isinstance(value, Exception):
        return kind
    if is_dataclass(value) and len(_fields(kind)) > 1:
        _GETTERS[kind] = attrgetter(*_fields(kind))
        return freeze(value)
    if is_dataclass(value):
        return (kind, *(freeze(getattr(value, name)) for name in _fields(kind)))
    _PLAIN.add(kind)
    return value


def numbers_in(value: Any, found: set[int]) -> None:
    """Collect the terms and indexes in a value."""
    if isinstance(value, (tuple, list)):
        for item in value:
            numbers_in(item, found)
    elif isinstance(value, Check):
        found.add(Gate.term_of(value.id) or 0)
    elif is_dataclass(value) and not isinstance(value, Policy):
        for name in _fields(type(value)):
            item = getattr(value, name)
            if name in _NUMBERS and isinstance(item, int):
                found.add(item)
            elif item is not None and not isinstance(item, (str, float, int)):
                numbers_in(item, found)


def serials_in(value: Any, found: set[int]) -> None:
    """Collect the serials of the effects in a value."""
    if isinstance(value, (tuple, list)):
        for item in value:
            serials_in(item, found)
    elif isinstance(value, ev.Effect):
        found.add(value.serial)
    elif is_dataclass(value) and not isinstance(value, Policy):
        for name in _fields(type(value)):
            item = getattr(value, name)
            if item is not None and not isinstance(item, (str, float, int)):
                serials_in(item, found)


def ranks(found: Iterable[int]) -> dict[int, int]:
    """Return the new number of each: 0 stays, the others are counted from 1 in their order."""
    return {0: 0} | {n: rank for rank, n in enumerate(sorted(set(found) - {0}), 1)}


def renumber(value: Any, numbers: Numbers, serials: Numbers) -> Any:
    """Return the value with its numbers changed, and without what nobody reads."""
    if isinstance(value, tuple):
        changed = tuple(renumber(item, numbers, serials) for item in value)
        return changed if any(a is not b for a, b in zip(changed, value, strict=True)) else value
    if isinstance(value, Check):
        term = Gate.term_of(value.id)
        if term is None or numbers[term] == term:
            return value
        return replace(value, id=f"{value.id.rpartition(':')[0]}:{numbers[term]}")
    if not is_dataclass(value) or isinstance(value, Policy):
        return value
    changes: dict[str, Any] = {}
    for name in _fields(type(value)):
        old = getattr(value, name)
        new = _field(value, name, old, numbers, serials)
        if new is not old and new != old:
            changes[name] = new
    return replace(value, **changes) if changes else value  # type: ignore[type-var]


def _field(value: Any, name: str, old: Any, numbers: Numbers, serials: Numbers) -> Any:
    if name in _UNREAD:
        return _UNREAD[name]
    if name in _NUMBERS and type(old) is int:
        return numbers[old]
    if isinstance(value, Standing) and name in ("serial", "viewed", "pictured", "polled"):
        # Compared with the serials of effects alone: how many of those are not above it?
        return sum(serial <= old for serial in serials if serial)
    if name == "serial":
        return serials[old]
    if old is None or isinstance(old, (str, float, int)):
        return old
    return renumber(old, numbers, serials)
