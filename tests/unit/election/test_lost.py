"""Who sees to it that a leader lost with its node is not shown again, and when."""

from __future__ import annotations

import pytest

from leadertag.election import events as ev
from leadertag.election.lost import left_published
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, Changed
from leadertag.model import Check, Gate, Health, Instance, LockView
from tests.unit.election.driver import Driver, held, instance, missing, policy, released, vanished


def unfit(view: LockView, **settings: bool) -> Driver:
    """A member that cannot campaign itself."""
    return Driver(policy(**settings)).ready(view, instance("me", health=Health.CRITICAL))


def test_whoever_cannot_succeed_sees_to_it_once() -> None:
    d = unfit(vanished(20))
    shut_out = d.wants(ev.ShutOutLost)
    assert (shut_out.member, shut_out.lease, shut_out.seen.index) == ("node-me/me", None, 20)
    d.finish(shut_out)
    d.wait(60)
    assert len(d.wanted(ev.ShutOutLost)) == 1
    d.lock(held(21)).lock(vanished(22))
    assert d.wants(ev.ShutOutLost).seen.index == 22


def test_whoever_waits_out_its_lease_does_so_under_the_own_one() -> None:
    d = Driver().ready(vanished()).grant(30)
    assert d.state is State.WAITING_OUT
    shut_out = d.wants(ev.ShutOutLost)
    assert shut_out.lease.term == 30
    d.finish(shut_out)
    d.hold(1)
    assert [e.lease for e in d.wanted(ev.ShutOutLost) if e.lease] == [shut_out.lease]


@pytest.mark.parametrize("view", [released(), missing(), held()])
def test_nothing_was_left_or_somebody_else_sees_to_it(view: LockView) -> None:
    assert not unfit(view).wanted(ev.ShutOutLost)


@pytest.mark.parametrize("settings", [{"fenced": True}, {"gated": False}])
def test_where_no_gate_outlives_its_process(settings: dict[str, bool]) -> None:
    assert not unfit(vanished(), **settings).wanted(ev.ShutOutLost)


@pytest.mark.parametrize("error", [Changed("taken"), BackendUnavailable("no server")])
def test_it_is_tried_again(error: Exception) -> None:
    d = unfit(vanished())
    d.finish(d.wants(ev.ShutOutLost), error=error)
    assert len(d.wanted(ev.ShutOutLost)) == 1, "not at once"
    d.wait(0.2)
    assert len(d.wanted(ev.ShutOutLost)) == 2


def gated(*tags: str, latch: Health = Health.PASSING, gate: str = "redis") -> Instance:
    """One whose node is lost, with the heartbeat that it had."""
    found, name = instance("old", *tags, gate=7), Gate(gate, 7).id
    checks = [Check("serfHealth", Health.CRITICAL), Check(name, Health.CRITICAL, own=True),
              Check(f"{name}:latch", latch, own=True)]  # fmt: skip
    return Instance(found.id, found.node, found.service, "", 0, tags, tuple(checks), gate=7)


def test_who_was_left_published() -> None:
    election = policy(tags=("sensu",)).election
    assert left_published(gated("sensu", "master"), election)
    assert not left_published(gated("master"), election), "another election's"
    assert not left_published(gated("sensu", "slave"), election)
    assert not left_published(gated("sensu", "master", gate="other"), election)
    assert not left_published(gated("sensu", "master", latch=Health.CRITICAL), election)
    assert not left_published(instance("old", "sensu", "master"), election), "the predecessor's"
