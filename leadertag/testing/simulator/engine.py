"""Virtual time: a queue of work, one seeded source of chance, and the notes taken."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush

Work = Callable[[], None]


class Engine:
    """Runs work in the order of its (virtual, real-world) time; the same seed, the same run."""

    def __init__(self, seed: int, variant: int = 0) -> None:
        self.now = 0.0
        source = f"{seed} {variant}"
        self.rng = random.Random(source)  # noqa: S311 - chance to be repeated, not kept secret
        self.timeline: list[tuple[float, str, str]] = []
        self._queue: list[tuple[float, int, Work]] = []
        self._count = 0

    def after(self, delay: float, work: Work) -> None:
        """Do that work in ``delay`` seconds of real-world time."""
        self._count += 1
        heappush(self._queue, (self.now + delay, self._count, work))

    def run(self, until: float) -> None:
        """Let time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, work = heappop(queue)
            work()
        self.now = max(self.now, until)

    def chance(self, probability: float) -> bool:
        """Throw a weighted coin."""
        return probability > 0 and self.rng.random() < probability

    def between(self, low: float, high: float) -> float:
        """Return a random number between two."""
        return low + (high - low) * self.rng.random()

    def note(self, who: str, what: str) -> None:
        """Note something for the timeline that a failure prints."""
        self.timeline.append((self.now, who, what))


class Clock:
    """One host's monotonic clock: runs at a rate of its own, from a start of its own."""

    def __init__(self, engine: Engine, rate: float, start: float) -> None:
        self._engine = engine
        self.rate = rate
        self._start = start

    def now(self) -> float:
        """Return the host's time."""
        return self._start + self.rate * self._engine.now

    def real(self, seconds: float) -> float:
        """Return how long that many of the host's seconds take."""
        return seconds / self.rate

    def until(self, time: float) -> float:
        """Return how long it takes, in real-world seconds, until the host's time is ``time``."""
        return max(0.0, (time - self.now()) / self.rate)
