"""Hand the leadership over to another member, without waiting for a failure.

The candidate is asked first: only when its own hooks agree does the leader give up. If it
refuses, or nobody accepts in time, the switchover is withdrawn and the leader goes on.

Exit code 0: another member leads, the named one where one was named; 1: not so, and the line
says what was in the way and who leads now. Ctrl-C withdraws the switchover too.

With one-shot `check` each of the steps takes a run: allow --timeout three intervals.
"""

from __future__ import annotations

import argparse
import sys

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json
from leadertag.cli.opened import add_arguments as add_common
from leadertag.cli.opened import one_of_them, opened, who
from leadertag.cli.parsing import seconds

TIMEOUT = 30.0
"""Seconds; the default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--to", default="", metavar="MEMBER",
        help="node/id, or one of both where that is enough (default: any that is able)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="TIME",
        help="when to give it up (default: 30s; with one-shot check at least three intervals)",
    )  # fmt: skip
    add_common(parser, "needed where the file has several")


def run(args: argparse.Namespace) -> int:
    """Ask for the switchover, wait for it and print what came of it."""
    with opened(args) as (providers, elections):
        election = one_of_them(elections)
        from leadertag.scheduler.clock import SystemClock
        from leadertag.switchover import SwitchoverRun

        switchover = SwitchoverRun(
            providers, election, to=args.to, timeout=args.timeout, by=who(), clock=SystemClock()
        )
        try:
            moved = switchover.run()
        except KeyboardInterrupt:
            return _interrupted(args, withdrawn=not switchover.asked)
    if args.json:
        print_json({
            "election": election.name,
            "from": moved.before,
            "to": moved.after,
            "term": moved.term,
            "previous_term": moved.previous_term,
            "seconds": round(moved.seconds, 3),
        })  # fmt: skip
    else:
        print(ascii_only(
            f"{election.name}: {moved.after} leads, term {moved.term}, in place of {moved.before} "
            f"({moved.seconds:.2f}s)"
        ))  # fmt: skip
    return exits.OK


def _interrupted(args: argparse.Namespace, *, withdrawn: bool) -> int:
    line = "interrupted; no switchover is left behind" if withdrawn else "interrupted"
    if args.json:
        print_json({"error": line, "exit_code": exits.INTERRUPTED})
    else:
        print(f"leadertag: {line}", file=sys.stderr)
    return exits.INTERRUPTED
