"""Pause, resume and switchover in the simulator: what is asked for happens, at bad moments too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.testing.history import Broken, History
from leadertag.testing.simulator import Result, Scenario, Strike, draw, play, simulate
from leadertag.testing.simulator.operators import OPERATIONS


def told(*strikes: Strike, seed: int = 1) -> Result:
    quiet: Scenario = replace(
        draw(seed, members=3), strikes=strikes, loss=0.0, late=0.0, hook_trouble=0.0,
        slow_agent=0.0, filtered=0.0,
    )  # fmt: skip
    return play(quiet)


def leaders(result: Result) -> list[str]:
    return [who for _, who, what in result.timeline if what.startswith("ACTS")]


def test_a_switchover_names_the_next_leader() -> None:
    first = leaders(told())[0]
    wanted = next(n for n in range(3) if f"m{n + 1}" != first)
    result = told(Strike(4.0, wanted, "switchover", lasting=1.0))
    assert not result.broken, result.story()
    assert leaders(result) == [first, f"m{wanted + 1}"]


def test_nobody_succeeds_in_a_pause() -> None:
    paused = Strike(3.0, 0, "pause_elections", lasting=1.0)
    gone = [Strike(4.0, n, "end_session") for n in range(3)]
    result = told(paused, *gone)
    assert not result.broken, result.story()
    resumed = next(at for at, who, what in result.timeline
                   if who == "operator" and "paused=False" in what)  # fmt: skip
    acts = [at for at, _, what in result.timeline if what.startswith("ACTS")]
    assert len(acts) == 2
    assert acts[0] < 3.0
    assert acts[1] > resumed


def test_every_operation_is_drawn() -> None:
    asked = {s.what for seed in range(1, 120) for s in simulate(seed).strikes}
    assert set(OPERATIONS) <= asked


@pytest.mark.parametrize("seed", [2, 6, 14])
def test_peace_ends_with_a_drill_of_planned_change(seed: int) -> None:
    result = told(seed=seed)
    assert not result.broken, result.story()
    assert any("Switchover" in what or "paused=True" in what for _, _, what in result.timeline)


def test_a_term_taken_in_a_known_pause_must_not_act() -> None:
    history = History()
    history.plan_seen("a", paused=True)
    history.campaigned("a")
    with pytest.raises(Broken, match="pause: a acts with term 5, which it took in a pause"):
        history.began(1.0, "a", 5)


def test_a_pause_that_came_later_or_is_over_is_no_obstacle() -> None:
    history = History()
    history.campaigned("a")
    history.plan_seen("a", paused=True)
    history.began(1.0, "a", 5)
    history.ended("a")
    history.plan_seen("a", paused=False)
    history.campaigned("a")
    history.began(2.0, "a", 6)
    history.ended("a")
    history.plan_seen("a", paused=True)
    history.restarted("a")
    history.campaigned("a")
    history.began(3.0, "a", 7)
