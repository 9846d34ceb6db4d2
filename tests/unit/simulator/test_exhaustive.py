"""Every interleaving of a small world: all of it is seen, and mistakes are found by short paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.election.states import State
from leadertag.testing.simulator.__main__ import main
from leadertag.testing.simulator.exhaustive import WORLDS, Explorer
from leadertag.testing.simulator.small import Bounds, Budget
from tests.unit.election import mistakes
from tests.unit.election.mistakes import Patch

KILLED = Bounds(Budget(kill=1))
BOTH = Bounds(Budget(kill=1, session=1))
LOST = Bounds(Budget(session=1, cut=1))
LATE = Bounds(Budget(session=1, late=1))
STOPPED = Bounds(Budget(stop=1))
FAILING = Bounds(Budget(stop=1, hook=1))
PLANNED = Bounds(Budget(plan=1))


def test_a_world_without_faults_is_seen_whole() -> None:
    found = Explorer(Bounds()).run()
    assert found.exhausted
    assert not found.broken, found.story()
    assert found.states > 300


def test_a_killed_process_breaks_no_promise_in_any_interleaving() -> None:
    explorer = Explorer(KILLED)
    found = explorer.run()
    assert not found.broken, found.story()
    assert found.exhausted
    assert found.states > 10_000
    assert {State.LEADING, State.DEMOTING, State.WAITING_OUT} <= explorer.visited


PAIRS = sorted(name for name in WORLDS if name not in ("killed", "stopped", "robbed", "late"))


@pytest.mark.parametrize("world", PAIRS)
def test_no_small_world_breaks_a_promise_early(world: str) -> None:
    found = Explorer(WORLDS[world]).run(states=1200)
    assert not found.broken, found.story()
    assert found.states >= 1200


@pytest.mark.parametrize(
    ("mistake", "bounds", "promise"),
    [
        (mistakes.no_wait_after_an_unexplained_loss, LATE, "I1"),
        (mistakes.half_a_wait_after_an_unexplained_loss, LOST, "I1"),
        (mistakes.release_before_demote_has_ended, STOPPED, "I1"),
        (mistakes.stuck_leader_releases, FAILING, "I1"),
        (mistakes.leader_hands_over_without_demote, PLANNED, "I1"),
        (mistakes.guardian_leaves_no_time_to_demote, BOTH, "I1"),
        (mistakes.verify_ignored, WORLDS["restarted"], "I5"),
        (mistakes.suspended_leader_is_not_verified, WORLDS["restarted in a pause"], "I5"),
    ],
    ids=lambda value: getattr(value, "__name__", "_"),
)
def test_a_mistake_is_found(mistake: Callable[[], Patch], bounds: Bounds, promise: str) -> None:
    with mistake():
        found = Explorer(bounds).run(states=40_000)
    assert found.broken == promise
    assert found.path


def test_a_path_ends_where_the_promise_breaks() -> None:
    with mistakes.no_wait_after_an_unexplained_loss():
        found = Explorer(LATE).run()
    assert "its session ends" in found.path[0]
    story = found.story()
    assert "acquiring" in story
    assert story.endswith("act at the same time")


def test_a_search_ends_at_its_bounds() -> None:
    assert Explorer(LOST).run(states=50).states < 200
    assert Explorer(LOST).run(depth=3).depth == 3


def test_the_command_searches_every_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--exhaustive", "--states", "200"]) == 0
    out = capsys.readouterr().out
    assert all(f"world {name!r}: " in out for name in WORLDS)
    assert "every promise kept" in out
