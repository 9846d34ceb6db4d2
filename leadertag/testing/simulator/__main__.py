"""``python -m leadertag.testing.simulator``: hunts with seeds, or visits every interleaving."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TextIO

from leadertag.testing.simulator import Result, draw
from leadertag.testing.simulator.hunt import Hunt, Tally, hunt
from leadertag.testing.simulator.shrinking import shrink


def main(arguments: list[str] | None = None) -> int:
    """Do as told; exit code 1 when any promise was broken."""
    options = parser().parse_args(arguments)
    if options.exhaustive:
        from leadertag.testing.simulator.exhaustive import main as explore

        return explore(options)
    began, tally = time.perf_counter(), Tally()
    wanted = Hunt(
        options.seed, options.runs, options.members, not options.no_guardian,
        options.keep_going, options.story,
    )  # fmt: skip
    for result in hunt(wanted, options.jobs):
        tally.add(result)
        if options.story and not options.json:
            print(result.story())
    took = time.perf_counter() - began
    if options.json:
        json.dump(_as_json(tally, took), sys.stdout)
        print()
    else:
        _report(tally, took, story=not options.story)
    if tally.broken and options.shrink:
        _shrink(wanted, tally.broken[0], sys.stderr if options.json else sys.stdout)
    return int(bool(tally.broken))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m leadertag.testing.simulator")
    made.add_argument("--runs", type=int, default=1, help="how many seeds (default: 1)")
    made.add_argument("--seed", type=int, default=1, help="the first of them (default: 1)")
    made.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    made.add_argument("--members", type=int, default=0, help="members, instead of drawn")
    made.add_argument("--no-guardian", action="store_true", help="nobody relieves a dead process")
    made.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    made.add_argument("--shrink", action="store_true", help="look for fewer faults that break it")
    made.add_argument("--story", action="store_true", help="print the timeline of good runs too")
    made.add_argument("--json", action="store_true", help="one JSON object")
    small = made.add_argument_group("every interleaving of a small world")
    small.add_argument("--exhaustive", action="store_true", help="instead of seeds")
    small.add_argument("--states", type=int, default=200_000,
                       help="in each world at most so many; 0: all (default: 200000)")  # fmt: skip
    small.add_argument("--depth", type=int, default=0, help="no longer paths (default: any)")
    return made


def _as_json(tally: Tally, took: float) -> dict[str, object]:
    return {
        "runs": tally.runs, "seconds": took, "virtual_seconds": tally.seconds,
        "leaderships": tally.leaderships, "faults": tally.faults, "states": tally.visited,
        "broken": [
            {"seed": r.seed, "promise": r.broken, "what": r.what, "timeline": r.timeline}
            for r in tally.broken
        ],
    }  # fmt: skip


def _report(tally: Tally, took: float, *, story: bool) -> None:
    for result in tally.broken[:1] if story else []:
        print(result.story())
    for result in tally.broken:
        print(f"seed {result.seed}: {result.broken}: {result.what}")
    print(
        f"{tally.runs} runs in {took:.1f} s, {tally.seconds:.0f} virtual seconds, "
        f"{tally.leaderships} leaderships, {tally.faults.total()} faults, "
        f"{len(tally.broken)} broken"
    )
    print("faults: " + ", ".join(f"{what} {n}" for what, n in sorted(tally.faults.items())))
    print("states: " + ", ".join(f"{state} {n}" for state, n in sorted(tally.visited.items())))


def _shrink(wanted: Hunt, broken: Result, out: TextIO) -> None:
    scenario = draw(broken.seed, members=wanted.members, guardian=wanted.guardian)
    short = shrink(scenario, broken.strikes, broken.broken)
    print(f"\n{short.broken} is broken by {len(short.strikes)} of {len(broken.strikes)} strikes:",
          file=out)  # fmt: skip
    for strike in short.strikes:
        print(strike, file=out)
    print(short.story(), file=out)


if __name__ == "__main__":
    sys.exit(main())
