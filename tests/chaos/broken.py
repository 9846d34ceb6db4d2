"""leadertag, broken on purpose: a checker that never finds anything proves nothing.

``python -m tests.chaos.broken NAME …`` runs the command line with one rule taken out, in
this process alone; no code of the product knows of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


def lease_never_ends() -> None:
    """A leader without contact goes on for ever, and no guardian ends it."""
    from leadertag.daemon.ward import Ward
    from leadertag.election.policy import Policy

    Policy.contact_limit = property(lambda self: 1e6)  # type: ignore[method-assign, assignment]
    Ward.hold = lambda self, holds: None  # type: ignore[method-assign]


def release_without_demote() -> None:
    """Demoting is only said to have been done."""
    from leadertag.hooks.outcome import Outcome
    from leadertag.hooks.runner import HookRunner
    from leadertag.hookspecs import HookEvent

    run = HookRunner.run

    def lying(self: HookRunner, change: Any, *rest: Any, **more: Any) -> Any:
        if change.event is HookEvent.DEMOTE:
            return Outcome(True)
        return run(self, change, *rest, **more)

    HookRunner.run = lying  # type: ignore[method-assign]


def no_gate() -> None:
    """A leader is resolved for as long as its service passes, whoever lives beside it."""
    from leadertag.scheduler import loop, member

    make = member.make_policy

    def ungated(*args: Any, gated: bool) -> Any:
        return make(*args, gated=False)

    for module in (member, loop):
        vars(module)["make_policy"] = ungated


def adoption_always() -> None:
    """A restarted process takes its lock for a leadership, whatever it was used for."""
    from leadertag.election import guards

    guards.adoptable = lambda s, _: s.own_lock and s.instance is not None


BREAKS: dict[str, Callable[[], None]] = {
    "lease-never-ends": lease_never_ends,
    "release-without-demote": release_without_demote,
    "no-gate": no_gate,
    "adoption-always": adoption_always,
}


def main(argv: Sequence[str]) -> int:
    """Break it and run it."""
    BREAKS[argv[0]]()
    from leadertag.cli import main as run

    return int(run(list(argv[1:])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
