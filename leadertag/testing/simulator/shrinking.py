"""Makes a failing run shorter: as few strikes as still break the promise, as simple as can be.

A run whose strikes are told instead of drawn goes the same way (see ``chaos``). Without some of
them the delays after them are others, so a shorter list is tried with a few sources of delay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from leadertag.testing.simulator import Result, play
from leadertag.testing.simulator.scenario import Scenario
from leadertag.testing.simulator.strikes import Strike

TRIES = 6
"""Sources of delay that each shorter list is tried with."""


def shrink(scenario: Scenario, strikes: Sequence[Strike], promise: str) -> Result:
    """Return a run of that scenario, with as few strikes as were found to break the promise.

    Raises ValueError when not even all of those strikes break it.
    """
    best = _first_broken(scenario, strikes, promise)
    if best is None:
        raise ValueError(f"seed {scenario.seed}: these strikes do not break {promise}")
    while True:
        shorter = next(
            (found for fewer in _simpler(best.strikes)
             if (found := _first_broken(scenario, fewer, promise)) is not None), None,
        )  # fmt: skip
        if shorter is None:
            return best
        best = shorter


def _first_broken(scenario: Scenario, strikes: Iterable[Strike], promise: str) -> Result | None:
    told = replace(scenario, strikes=tuple(strikes))
    for delays in range(TRIES):
        result = play(replace(told, delays=delays))
        if result.broken == promise:
            return replace(result, strikes=told.strikes or ())
    return None


def _simpler(strikes: Sequence[Strike]) -> Iterator[Sequence[Strike]]:
    """Yield lists that are less: without a half, without one, with one that is simpler."""
    half = len(strikes) // 2
    if half > 1:
        yield strikes[half:]
        yield strikes[:half]
    for n in range(len(strikes)):
        yield (*strikes[:n], *strikes[n + 1 :])
    for n, strike in enumerate(strikes):
        for plainer in _plainer(strike):
            yield (*strikes[:n], plainer, *strikes[n + 1 :])


def _plainer(strike: Strike) -> Iterator[Strike]:
    """Yield strikes that are less odd: each differs, and none leads back."""
    for at, lasting in (
        (round(strike.at, 1), round(strike.lasting, 1)),
        (strike.at, round(strike.lasting, 1)),
        (round(strike.at, 2), strike.lasting),
    ):
        if (at, lasting) != (strike.at, strike.lasting):
            yield replace(strike, at=at, lasting=lasting)
    if strike.coins:
        yield replace(strike, coins=0)
