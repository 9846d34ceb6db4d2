"""A leader that was lost with its node never resolves again in the term that it lost."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest

from leadertag.election import lost
from leadertag.testing.simulator import Result, Scenario, Strike, draw, play

SEEDS = [seed for seed in range(1, 60) if not draw(seed, members=3).fenced]


def _quiet(seed: int, *strikes: Strike) -> Scenario:
    drawn = draw(seed, members=3)
    return replace(
        drawn, node_loss=0.3 * drawn.policy.lease, strikes=strikes, loss=0.0, late=0.0,
        hook_trouble=0.0, slow_agent=0.0, filtered=0.0, operations=0,
    )  # fmt: skip


def _leader(seed: int) -> tuple[int, float]:
    """Return who leads first in that world, and a moment when everybody has seen it."""
    timeline = play(_quiet(seed)).timeline
    at, resolved = next((at, what) for at, _, what in timeline if what.startswith("resolves: m"))
    return int(resolved.split()[1][1:]) - 1, at + 1.0


def _lost(seed: int, *, alone: bool) -> Result:
    """Lose the leader's node, for long enough to be noticed but not to be succeeded."""
    who, at = _leader(seed)
    failing = [Strike(at - 0.5, n, "crash_service", 0.99) for n in range(3) if n != who and alone]
    return play(_quiet(seed, *failing, Strike(at, who, "lose_node", 0.1)))


def _resolves_again(result: Result) -> bool:
    """Whether, after its node was back, the old term was shown once more."""
    shown = [what for _, _, what in result.timeline if what.startswith("resolves: m")]
    back = next(n for n, (_, _, what) in enumerate(result.timeline) if "comes back" in what)
    later = [what for _, _, what in result.timeline[back:] if what.startswith("resolves: m")]
    return bool(later) and later[0] == shown[0]


@pytest.mark.parametrize("alone", [False, True])
def test_a_lost_term_does_not_resolve_again(alone: bool) -> None:
    for seed in SEEDS:
        result = _lost(seed, alone=alone)
        assert not result.broken, result.story()
        assert not _resolves_again(result), result.story()


@pytest.mark.parametrize("alone", [False, True])
def test_it_would_if_nobody_shut_it_out(alone: bool) -> None:
    with patch.object(lost, "_proven", lambda _, __: False):
        assert any(_resolves_again(_lost(seed, alone=alone)) for seed in SEEDS)
