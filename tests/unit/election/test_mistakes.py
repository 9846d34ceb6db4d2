"""Deliberate mistakes in the protocol: the simulator has to find every one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.testing.simulator import simulate
from tests.unit.election.mistakes import MISTAKES, Patch, harsh

ENOUGH = 1500
"""Seeds within which each is found; most of them are within twenty."""


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_simulator_finds_it(mistake: Callable[[], Patch]) -> None:
    with mistake():
        found = next(
            (seed for seed in range(1, ENOUGH) if simulate(seed, scenario=harsh).broken), None
        )
    assert found is not None, f"{mistake.__name__} went unnoticed in {ENOUGH} runs"
    # It is the mistake that is found, not something else: without it the same seed is fine.
    right = simulate(found, scenario=harsh)
    assert not right.broken, right.story()
