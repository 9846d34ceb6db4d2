"""One ``[[elections.NAME.hooks]]`` table."""

from __future__ import annotations

from collections.abc import Mapping

from leadertag.config.settings import HookSettings
from leadertag.config.table import Table, duration
from leadertag.config.values import checked_name, checked_time
from leadertag.errors import ConfigError, did_you_mean
from leadertag.hookspecs import HookEvent

TIMEOUTS: Mapping[HookEvent, float] = {
    # What a failover waits for is generous, what a lease has to hold besides is not.
    HookEvent.BEFORE_PROMOTE: 5.0,
    HookEvent.PROMOTE: 10.0,
    HookEvent.VERIFY: 5.0,
    HookEvent.DEMOTE: 1.0,
    HookEvent.FENCE: 1.0,
    HookEvent.FOLLOW: 10.0,
    HookEvent.ROLE_CHANGED: 10.0,
    HookEvent.LEADER_CHANGED: 10.0,
    HookEvent.RANK: 0.5,
    HookEvent.PROBE: 1.0,
}
"""Seconds that a hook may take where ``timeout`` does not say."""
_OURS = ("use", "events", "timeout")


def read_hook(table: Table) -> HookSettings:
    """Read what is leadertag's of a hook's table; the rest is the hook's own to check."""
    use = checked_name(table.text("use"), f"{table.where}: use")
    options = {key: value for key, value in table.plain().items() if key not in _OURS}
    return HookSettings(
        use=use,
        where=table.where,
        events=_events(table),
        timeouts=_timeouts(table),
        options=options,
    )


def _events(table: Table) -> frozenset[HookEvent] | None:
    if "events" not in table:
        return None
    names = table.texts("events")
    if not names:
        raise ConfigError(
            f"{table.where}: events is empty: leave it out for all events, or the hook altogether"
        )
    return frozenset(_event(name, f"{table.where}: events") for name in names)


def _event(name: str, where: str) -> HookEvent:
    known = [event.value for event in HookEvent]
    if name not in known:
        hint = did_you_mean(name, known) or f" (there are {', '.join(known)})"
        raise ConfigError(f"{where}: there is no event {name!r}{hint}")
    return HookEvent(name)


def _timeouts(table: Table) -> dict[HookEvent, float]:
    """Read one duration for all events, or a table with one for some."""
    value = table.raw("timeout", {})
    where = f"{table.where}: timeout"
    if isinstance(value, Mapping):
        given = {_event(event, where): _limit(text, where, event) for event, text in value.items()}
        return {**TIMEOUTS, **given}
    limit = _limit(value, where, "")
    return dict.fromkeys(TIMEOUTS, limit)


def _limit(value: object, where: str, event: str) -> float:
    what = f"{where}.{event}" if event else where
    if not isinstance(value, str):
        shape = 'a duration like "10s"' + (
            "" if event else ', or a table by event like { promote = "10s" }'
        )
        raise ConfigError(f"{what} must be {shape}")
    try:
        seconds = duration(value)
    except ValueError as error:
        raise ConfigError(f"{what} = {error}") from None
    return checked_time(seconds, what)
