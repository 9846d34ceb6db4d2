"""Planned changes as an operator asks for them: pausing an election, and resuming it.

Asking is a compare-and-set on the plan beside the lock (:mod:`leadertag.plan`); members do the
rest. A switchover has a module of its own, :mod:`leadertag.switchover`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from leadertag.errors import BackendError, Changed, Conflict
from leadertag.plan import PLAN, Plan, write_plan
from leadertag.providers import LockProvider

ATTEMPTS = 20
"""How often a change is tried while others change the same plan."""


class NotDone(BackendError):
    """What was asked for cannot be done as things stand, or did not come about."""


def pause(lock: LockProvider, key: str, *, by: str, since: str, reason: str) -> tuple[Plan, Plan]:
    """Pause an election, which ends an open switchover; return the plan before and after.

    One that is paused stays as it is. Raises Conflict when the plan is not leadertag's.
    """

    def paused(plan: Plan) -> Plan:
        if not plan.paused:
            plan = replace(plan, paused=True, by=by, since=since, reason=reason)
        return replace(plan, switchover=None)

    return edit(lock, key, paused)


def resume(lock: LockProvider, key: str) -> tuple[Plan, Plan]:
    """End the pause of an election; return the plan before and after.

    Raises Conflict when the plan is not leadertag's.
    """
    return edit(lock, key, lambda plan: replace(plan, paused=False, by="", since="", reason=""))


def edit(lock: LockProvider, key: str, change: Callable[[Plan], Plan]) -> tuple[Plan, Plan]:
    """Change a plan, whoever else does so at the same time; return it before and after.

    Where ``change`` changes nothing, nothing is written. Raises Conflict when the plan is not
    leadertag's.
    """
    for _ in range(ATTEMPTS):
        before = Plan.decode(lock.read_note(key, PLAN))
        if before.foreign:
            raise foreign(key)
        wanted = change(before)
        if wanted == before:
            return before, before
        with suppress(Changed):
            return before, write_plan(lock, key, wanted)
    raise Changed(f"the plan of {key!r} was changed by others {ATTEMPTS} times in a row: try again")


def foreign(key: str) -> Conflict:
    """Return the error for a plan that leadertag did not write."""
    return Conflict(f"the plan beside the lock {key!r} is not leadertag's: delete that key")
