"""The real machine in the simulated world: promises kept, runs repeatable, failures told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leadertag.testing.simulator import Scenario, draw, simulate
from leadertag.testing.simulator.__main__ import main
from tests.unit.election.mistakes import harsh

SEEDS = 320
PART = 40


@pytest.mark.parametrize("first", range(1, SEEDS, PART))
def test_every_promise_is_kept(first: int) -> None:
    results = [simulate(seed) for seed in range(first, first + PART)]
    broken = next((result for result in results if result.broken), None)
    assert broken is None, broken and broken.story()
    assert sum(result.leaderships for result in results) > PART / 2  # something did happen


def calm(scenario: Scenario) -> Scenario:
    return replace(
        scenario, faults=0, operations=0, ambush=0.0, loss=0.0, late=0.0, hook_trouble=0.0,
        filtered=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 3, 5, 7, 9])  # every other seed ends with a drill
def test_without_faults_there_is_one_leadership_and_it_stays(seed: int) -> None:
    result = simulate(seed, scenario=calm)
    assert not result.broken, result.story()
    assert sum("ACTS" in what for _, _, what in result.timeline) == 1


def test_a_seed_is_a_run() -> None:
    first, again = simulate(11), simulate(11)
    assert first == again
    assert first.timeline != simulate(12).timeline


def test_members_can_be_told() -> None:
    assert draw(7, members=5).members == 5
    told = {who for _, who, _ in simulate(7, members=5).timeline}
    assert {"m1", "m5"} <= told
    assert "m6" not in told


def test_without_a_guardian_somebody_is_seen_to_act_too_long() -> None:
    runs = (simulate(seed, guardian=False, scenario=harsh) for seed in range(1, 1000))
    assert next(result.broken for result in runs if result.broken) == "I1"


def test_the_command_reports_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "3", "--seed", "21", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["runs"], report["broken"]) == (3, [])
    assert report["faults"]
    assert report["states"]["leading"] >= 3
    assert report["virtual_seconds"] > 3


def test_the_command_tells_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "21", "--story"]) == 0
    out = capsys.readouterr().out
    assert "leadertag starts" in out
    assert "1 runs" in out
    assert "states: " in out
