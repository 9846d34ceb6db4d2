"""Runs many seeds, in several processes. What comes of it does not depend on how many."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from leadertag.testing.simulator import Result, simulate

PART = 8
"""Seeds that a process is given at a time."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """Which seeds to run, and how."""

    first: int
    runs: int
    members: int = 0
    guardian: bool = True
    keep_going: bool = False
    stories: bool = False
    """Keep the timelines of good runs too."""


@dataclass
class Tally:
    """What came of many runs."""

    runs: int = 0
    seconds: float = 0.0
    leaderships: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    visited: Counter[str] = field(default_factory=Counter)
    broken: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one run."""
        self.runs += 1
        self.seconds += result.seconds
        self.leaderships += result.leaderships
        self.faults += result.faults
        self.visited.update(result.visited)
        if result.broken:
            self.broken.append(result)


def hunt(wanted: Hunt, jobs: int = 0) -> Iterator[Result]:
    """Yield the results in the order of their seeds; end with the first failure unless told to
    keep going. ``jobs`` 0: one for each core."""
    jobs = min(jobs or cores(), wanted.runs)
    seeds = range(wanted.first, wanted.first + wanted.runs)
    run = partial(_run, wanted)
    if jobs <= 1:
        yield from _until_broken(map(run, seeds), wanted)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from _until_broken(pool.imap(run, seeds, PART), wanted)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _until_broken(results: Iterator[Result], wanted: Hunt) -> Iterator[Result]:
    for result in results:
        yield result
        if result.broken and not wanted.keep_going:
            return


def _run(wanted: Hunt, seed: int) -> Result:
    result = simulate(seed, members=wanted.members, guardian=wanted.guardian)
    if result.broken or wanted.stories:
        return result
    return replace(result, timeline=())
