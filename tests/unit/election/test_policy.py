"""The deadlines, and the inequalities that a configuration has to fulfil."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.config.settings import ElectionSettings
from leadertag.election.policy import (
    CONFIRMS_PER_LEASE,
    RATE,
    SLACK,
    Policy,
    check_one_shot,
    check_timing,
    contact_limit,
    explain,
)
from leadertag.errors import ConfigError
from leadertag.hookspecs import HookEvent

ELECTION = ElectionSettings(name="redis", service="redis", where="[elections.redis]", lease=3.0)


def test_demotion_ends_before_the_part_of_the_lease_that_clock_rates_need() -> None:
    assert contact_limit(3.0, 0.5, 0.3) + 0.5 + 0.3 + SLACK == pytest.approx(RATE * 3.0)
    assert RATE * 1.1 < 1.0  # a fast clock's lease is over after a slow clock's 0.9


def test_policy_takes_its_limits_from_lease_and_hooks() -> None:
    policy = Policy(ELECTION, budgets={HookEvent.DEMOTE: 0.5, HookEvent.FENCE: 0.3})
    assert policy.contact_limit == contact_limit(3.0, 0.5, 0.3)
    assert policy.confirm_every == 3.0 / CONFIRMS_PER_LEASE
    assert policy.budget(HookEvent.PROMOTE) == 0.0


@pytest.mark.parametrize(("demote", "fence"), [(0.0, 0.0), (1.0, 0.5), (1.84, 0.0)])
def test_hooks_that_fit_are_accepted(demote: float, fence: float) -> None:
    check_timing(ELECTION, demote=demote, fence=fence)


@pytest.mark.parametrize(("demote", "fence"), [(1.9, 0.0), (1.0, 1.0), (10.0, 0.0)])
def test_hooks_that_do_not_fit_are_refused_with_a_lease_that_would_do(
    demote: float, fence: float
) -> None:
    with pytest.raises(ConfigError, match=r"\[elections.redis\]: lease = 3s is too short") as error:
        check_timing(ELECTION, demote=demote, fence=fence)
    advice = float(str(error.value).split("a lease of ")[1].split("s ")[0])
    check_timing(replace(ELECTION, lease=advice), demote=demote, fence=fence)


def test_a_lease_must_outlive_two_intervals_of_check() -> None:
    runs = {"interval": 10.0, "timeout": 5.0}
    check_one_shot(replace(ELECTION, lease=25.0), **runs, demote=1.0, fence=1.0)
    with pytest.raises(ConfigError, match="it would run out between runs"):
        check_one_shot(replace(ELECTION, lease=24.9), **runs, demote=0.0, fence=0.0)
    # 0.9 x 25 - 5 - 2.5 - 0.1 = 14.9: a run that comes 15 s later is too late to demote in time.
    with pytest.raises(ConfigError, match=r"would demote too late; a lease of 25\.2s"):
        check_one_shot(replace(ELECTION, lease=25.0), **runs, demote=5.0, fence=2.5)


def test_explain_adds_up_and_names_its_parts() -> None:
    bounds = explain(
        ELECTION, budgets={HookEvent.PROMOTE: 2.0, HookEvent.DEMOTE: 0.5}, gate_life=2.0,
        session_expiry=20.0,
    )  # fmt: skip
    for bound in bounds:
        assert bound.seconds == pytest.approx(sum(seconds for _, seconds in bound.parts))
        assert bound.parts
        assert bound.meaning
    lost = [dict(bound.parts) for bound in bounds if "backend frees the lock" in dict(bound.parts)]
    assert lost
    assert all(part["wait out the lease"] == 3.0 and part["promote hooks"] == 2.0 for part in lost)


def test_explain_of_check_knows_the_interval_and_no_gate() -> None:
    bounds = explain(
        ELECTION, budgets={}, gate_life=2.0, session_expiry=20.0, one_shot_interval=10.0
    )
    parts = [name for bound in bounds for name, _ in bound.parts]
    assert "next run of check" in parts
    assert "gate's life" not in parts
