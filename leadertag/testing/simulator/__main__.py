"""``python -m leadertag.testing.simulator --runs N [--seed S] [--members M] [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from leadertag.testing.simulator import Result, simulate


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; exit code 1 when any of them broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m leadertag.testing.simulator")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (default: 1)")
    parser.add_argument("--members", type=int, default=0, help="members, instead of drawn")
    parser.add_argument("--no-guardian", action="store_true", help="nobody relieves a dead process")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--story", action="store_true", help="print the timeline of good runs too")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    results: list[Result] = []
    for seed in range(options.seed, options.seed + options.runs):
        result = simulate(seed, members=options.members, guardian=not options.no_guardian)
        results.append(result)
        if options.story and not options.json:
            print(result.story())
        if result.broken and not options.keep_going:
            break
    _report(results, time.perf_counter() - began, as_json=options.json, story=not options.story)
    return int(any(result.broken for result in results))


def _report(results: list[Result], took: float, *, as_json: bool, story: bool) -> None:
    broken = [result for result in results if result.broken]
    if as_json:
        json.dump({
            "runs": len(results), "seconds": took,
            "virtual_seconds": sum(result.seconds for result in results),
            "leaderships": sum(result.leaderships for result in results),
            "broken": [
                {"seed": r.seed, "promise": r.broken, "what": r.what, "timeline": r.timeline}
                for r in broken
            ],
        }, sys.stdout)  # fmt: skip
        print()
        return
    for result in broken[:1] if story else []:
        print(result.story())
    for result in broken:
        print(f"seed {result.seed}: {result.broken}: {result.what}")
    kinds = Counter(result.broken for result in broken)
    print(
        f"{len(results)} runs in {took:.1f} s, {sum(r.seconds for r in results):.0f} virtual "
        f"seconds, {sum(r.leaderships for r in results)} leaderships, broken: {dict(kinds) or 0}"
    )


if __name__ == "__main__":
    sys.exit(main())
