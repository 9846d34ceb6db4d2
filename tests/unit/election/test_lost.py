"""Who sees to it that a leader lost with its node is not shown again, and when."""

from __future__ import annotations

import pytest

from leadertag.election import events as ev
from leadertag.election.lost import left_published
from leadertag.election.machine import next_deadline
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, Changed, LeaderTagError, PermissionDenied
from leadertag.model import Health, Instance, LockView
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


def test_a_lock_that_was_deleted_is_waited_out_like_any_other() -> None:
    d = Driver().ready(missing()).grant(30)
    assert not d.wanted(ev.ShutOutLost), "there may be nobody"
    d.done((instance(), instance("other", "master", gate=3)))
    assert d.state is State.WAITING_OUT
    assert d.wants(ev.ShutOutLost).lease.term == 30


@pytest.mark.parametrize("view", [released(), missing(), held()])
def test_nothing_was_left_or_somebody_else_sees_to_it(view: LockView) -> None:
    assert not unfit(view).wanted(ev.ShutOutLost)


@pytest.mark.parametrize("settings", [{"fenced": True}, {"gated": False}])
def test_where_no_gate_outlives_its_process(settings: dict[str, bool]) -> None:
    assert not unfit(vanished(), **settings).wanted(ev.ShutOutLost)


ERRORS = [Changed("taken"), BackendUnavailable("no server"), PermissionDenied("no right")]


def fail(d: Driver, seconds: float, error: LeaderTagError) -> Driver:
    """Let that time pass, and every shut-out fail with the error."""
    end = d.now + seconds
    while d.now < end:
        if d.s.shutting is not None:
            d.finish(d.s.shutting, error=error)
        d.wait(0.05)
    return d


@pytest.mark.parametrize("error", ERRORS)
def test_it_is_tried_again_at_growing_distances(error: LeaderTagError) -> None:
    d = unfit(vanished())
    d.finish(d.wants(ev.ShutOutLost), error=error)
    assert len(d.wanted(ev.ShutOutLost)) == 1, "not at once"
    assert next_deadline(d.s) == d.s.shut_at > d.now, "somebody has to wake it"
    d.wait(0.2)
    assert len(d.wanted(ev.ShutOutLost)) == 2
    assert 7 <= len(fail(d, 10, error).wanted(ev.ShutOutLost)) <= 12


@pytest.mark.parametrize("error", ERRORS)
def test_no_other_duty_waits_while_it_fails(error: LeaderTagError) -> None:
    """A stale tag of one's own above all: whoever carries it cannot campaign."""
    d = Driver().ready(vanished(20), instance("me", "master", gate=5))
    assert d.wanted(ev.SetTags)
    fail(d, 10, error)
    assert d.s.failures == 0


def test_no_other_duty_is_tried_again_sooner_because_it_succeeds() -> None:
    d = Driver().ready(vanished(20), instance("me", "master", gate=5))
    d.finish(d.wants(ev.SetTags), error=BackendUnavailable("no server"))
    assert d.s.failures == 1
    assert d.s.shutting is not None
    d.finish(d.s.shutting)
    assert (d.s.shutting, d.s.failures) == (None, 1)


def test_it_does_not_wait_for_a_long_follow() -> None:
    d = Driver(policy()).ready(held(10, term=7))
    assert isinstance(d.s.chore, ev.RunHook)
    d.see(instance("me", health=Health.CRITICAL)).lock(vanished(20))
    assert isinstance(d.s.chore, ev.RunHook), "still under way"
    assert d.wanted(ev.ShutOutLost)


def gated(*tags: str, gate: int | None = 7) -> Instance:
    return Instance("old", "node-old", "redis", "", 0, tags, gate=gate)


def test_who_was_left_published() -> None:
    election = policy(tags=("sensu",)).election
    assert left_published(gated("sensu", "master"), election)
    assert not left_published(gated("master"), election), "another election's"
    assert not left_published(gated("sensu", "slave"), election)
    assert not left_published(gated("sensu", "master", gate=None), election), "the predecessor's"
