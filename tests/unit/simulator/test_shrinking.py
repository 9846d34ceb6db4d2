"""A failing schedule of faults shrinks to the few that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import find, settings
from hypothesis import strategies as st

from leadertag.testing.simulator import Scenario, Strike, draw, play, simulate
from leadertag.testing.simulator.__main__ import main
from leadertag.testing.simulator.chaos import KINDS
from leadertag.testing.simulator.shrinking import shrink
from tests.unit.election import mistakes
from tests.unit.election.mistakes import Patch

CHAOS = 4.0
STRIKES = st.builds(
    Strike,
    at=st.integers(1, 3).map(float),
    host=st.integers(0, 1),
    what=st.sampled_from(sorted(KINDS)),
    lasting=st.integers(0, 10).map(lambda tenth: tenth / 10),
    coins=st.integers(0, 3),
)
SCHEDULES = st.lists(STRIKES, max_size=8).map(tuple)


def quiet(strikes: tuple[Strike, ...], delays: int = 0) -> Scenario:
    """Two members on Consul, nothing but those strikes."""
    return replace(
        draw(119, members=2), strikes=strikes, delays=delays, chaos=CHAOS, loss=0.0, late=0.0,
        slow_agent=0.0, hook_trouble=0.0, filtered=0.0,
    )  # fmt: skip


def breaks(strikes: tuple[Strike, ...]) -> bool:
    """Whether they break a promise, with one of several sources of delay.

    One alone would make each strike matter by the delays that come after it.
    """
    return any(play(quiet(strikes, delays)).broken for delays in range(3))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mistake", "most"),
    [
        (mistakes.no_wait_after_an_unexplained_loss, 2),
        (mistakes.leader_hands_over_without_demote, 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hypothesis_shrinks_a_schedule(mistake: Callable[[], Patch], most: int) -> None:
    with mistake():
        least = find(
            SCHEDULES,
            breaks,
            settings=settings(max_examples=800, deadline=None, derandomize=True, database=None),
        )
    assert 1 <= len(least) <= most, least
    assert not breaks(least)  # it is the mistake, not the schedule


def test_a_run_goes_the_same_way_when_its_strikes_are_told() -> None:
    drawn = simulate(40)
    told = play(replace(draw(40), strikes=drawn.strikes))
    assert len(drawn.strikes) > 3
    assert told.timeline == drawn.timeline


def test_a_failing_seed_shrinks() -> None:
    with mistakes.half_a_wait_after_an_unexplained_loss():
        failing = next(r for seed in range(1, 400) if (r := simulate(seed)).broken == "I1")
        short = shrink(draw(failing.seed), failing.strikes, "I1")
        assert short.broken == "I1"
        assert len(short.strikes) <= min(3, len(failing.strikes))
    with pytest.raises(ValueError, match="do not break I1"):
        shrink(draw(failing.seed), failing.strikes, "I1")


def test_the_command_prints_the_shrunk_strikes(capsys: pytest.CaptureFixture[str]) -> None:
    with mistakes.no_wait_after_an_unexplained_loss():
        assert main(["--runs", "100", "--jobs", "1", "--shrink"]) == 1
    out = capsys.readouterr().out
    assert "is broken by" in out
    assert "strikes:" in out


def test_a_strike_reads_as_one_line() -> None:
    strike = Strike(1.5, 0, "kill", 0.25, 3)
    assert str(strike).split() == ["1.500", "m1", "kill", "(lasting=0.25,", "coins=3)"]
    assert (strike.first, strike.second) == (True, True)
