"""Pause elections: whoever leads goes on, and nobody succeeds until `leadertag resume`.

For planned work on the service. The lease is not paused: a leader that loses contact to the
backend still demotes, and a leader whose service fails closes its gate and keeps the lock.
An open switchover is withdrawn.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json
from leadertag.cli.opened import add_arguments as add_common
from leadertag.cli.opened import opened, who

if TYPE_CHECKING:
    from leadertag.plan import Plan

LONGEST_REASON = 200
"""Characters: every member reads it with the plan."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("--reason", type=_reason, default="", metavar="TEXT", help="for others")
    add_common(parser)


def _reason(text: str) -> str:
    if len(text) > LONGEST_REASON:
        raise argparse.ArgumentTypeError(
            f"is {len(text)} characters long, at most {LONGEST_REASON} are kept"
        )
    return " ".join(text.split())


def run(args: argparse.Namespace) -> int:
    """Pause each election and print what is so now."""
    found = []
    with opened(args) as (providers, elections):
        from leadertag.planned import pause
        from leadertag.scheduler.clock import wall_time

        for election in elections:
            before, after = pause(
                providers.lock, election.key, by=who(), since=wall_time(), reason=args.reason
            )
            found.append(as_json(election.name, after))
            if not args.json:
                print(ascii_only(f"{election.name}: {_text(before, after)}"), flush=True)
    if args.json:
        print_json({"elections": found})
    return exits.OK


def _text(before: Plan, after: Plan) -> str:
    from leadertag.status import pause_in_words

    said = pause_in_words(after)
    if before.paused:
        return f"was {said} already"
    asked = before.switchover
    if asked is not None:
        said += f"; the switchover that {asked.by or 'somebody'} had asked for is withdrawn"
    return said


def as_json(name: str, plan: Plan) -> dict[str, Any]:
    """Return what ``pause --json`` and ``resume --json`` say of one election."""
    return {
        "name": name,
        "paused": plan.paused,
        "by": plan.by,
        "since": plan.since,
        "reason": plan.reason,
    }
