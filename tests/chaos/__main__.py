"""Faults on purpose, on real servers, and a verdict.

    python -m tests.chaos --minutes 20 --backend consul --seed 1 --report /tmp/chaos.html

Exit status: 0 when every promise was kept within its bounds, 1 when one was not, 2 when
the world could not be made or did not come to rest at the start, 77 when this machine
cannot have one (no root, no namespaces).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos import nemeses, report
from tests.chaos.clock import now
from tests.chaos.evidence import read_all
from tests.chaos.figures import figures
from tests.chaos.network import NoNetwork, check_possible
from tests.chaos.schedule import Limits, Schedule
from tests.chaos.settings import BACKENDS
from tests.chaos.verdict import Judge
from tests.chaos.world import NotSettled, World, exit_on_signals
from tests.chaos.writes import judge_writes
from tests.tools.servers import ServerMissing

KEPT, BROKEN, NO_WORLD, IMPOSSIBLE = 0, 1, 2, 77
_OWN_VARIABLES = ("LEADERTAG_", "CONSUL_", "ETCDCTL_")


def main(argv: Sequence[str]) -> int:
    """Parse, run, judge, write, tell."""
    args = _parser().parse_args(argv)
    if args.list:
        print("\n".join(f"{one.name}: {', '.join(one.bounds) or '-'}" for one in nemeses.ALL))
        return KEPT
    for name in [name for name in os.environ if name.startswith(_OWN_VARIABLES)]:
        if not name.startswith("LEADERTAG_TEST_"):
            del os.environ[name]
    if args.backend != "local":
        try:
            check_possible()
        except NoNetwork as error:
            print(f"skipped: {error}")
            return IMPOSSIBLE
    exit_on_signals()
    try:
        outcome = run(args)
    except (NotSettled, NoNetwork, ServerMissing) as error:
        print(f"no run: {error}", file=sys.stderr)
        return NO_WORLD
    tell(outcome)
    return BROKEN if outcome.broken else KEPT


def run(args: argparse.Namespace) -> report.Outcome:
    """Make a world, carry out the schedule, judge the evidence, write the report."""
    began = now()
    with World(args.backend, args.breaks) as world:
        minutes = args.minutes if args.faults is None and not args.only else float("inf")
        limits = Limits(now() + 60 * minutes, args.faults)
        schedule = Schedule(world, Random(args.seed), limits, only=args.only, without=args.without)
        try:
            schedule.run()
            world.wait_settled()
            world.journal.write("surviving", entries=world.surviving())
        except NotSettled as error:
            print(f"ended early: {error}", file=sys.stderr)
        lines = read_all(world.evidence)
        if args.keep:
            world.keep_logs(args.keep)
        facts: dict[str, Any] = {
            "backend": args.backend, "seed": args.seed, "minutes": round((now() - began) / 60, 1),
            "broken on purpose": args.breaks or "nothing",
        }  # fmt: skip
        if world.no_clock:
            facts["no wall clock jumps"] = world.no_clock
    verdict = Judge(lines).judge()
    outcome = report.Outcome(
        facts, verdict, figures(lines, verdict.spans), judge_writes(lines, verdict.spans)
    )
    if args.report is not None:
        report.write(outcome, lines, args.report)
    return outcome


def tell(outcome: report.Outcome) -> None:
    """The outcome for people, on standard output."""
    found = outcome.as_dict()
    print(f"{found['faults']} faults ({found['settled']} settled, {found['overlapping']} "
          f"overlapping), {found['terms']} terms, {found['registry states']} registry states, "
          f"{found['hooks']} hooks")  # fmt: skip
    for finding in outcome.broken[:20]:
        print(f"BROKEN {finding.promise} at {finding.t:.3f}: {finding.what}")
    for bound in found["bounds"]:
        print(f"{bound['name']}: {bound['seconds']:g} s, observed n {bound['n']}, median "
              f"{bound.get('median', '-')}, max {bound.get('max', '-')}, ratio "
              f"{bound['ratio'] or '-'}")  # fmt: skip
    print("writes: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in found["writes"].items()))
    print("kept" if not outcome.broken else "broken")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=3.0, metavar="N", help="default 3")
    parser.add_argument("--faults", type=int, metavar="N", help="end after so many instead")
    parser.add_argument("--backend", choices=BACKENDS, default="consul")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="beside it FILE.json and FILE.jsonl are written",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=[one.name for one in nemeses.ALL],
        help="this fault, as often as it is named or --faults says, and no others",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        choices=[one.name for one in nemeses.ALL],
        help="not this fault",
    )
    parser.add_argument("--list", action="store_true", help="list the faults with their bounds")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs and evidence there")
    parser.add_argument(
        "--break",
        dest="breaks",
        default="",
        metavar="NAME",
        help="break leadertag on purpose, to see the verdict find it: "
        "lease-never-ends, release-without-demote, no-gate, adoption-always",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
