"""Deliberate mistakes in the protocol: the simulator has to find every one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.testing.simulator import simulate
from tests.unit.election.mistakes import ENOUGH, MISTAKES, Patch, find, world_of


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_simulator_finds_it(mistake: Callable[[], Patch]) -> None:
    found = find(mistake)
    assert found is not None, f"{mistake.__name__} went unnoticed in {ENOUGH} runs"
    # It is the mistake that is found, not something else: without it the same seed is fine.
    right = simulate(found.seed, scenario=world_of(mistake))
    assert not right.broken, right.story()
