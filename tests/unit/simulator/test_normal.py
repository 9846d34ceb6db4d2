"""Normal forms: what differs in nothing but names is one, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from leadertag.election import events as ev
from leadertag.model import Check, Gate, Health, LockView, Phase
from leadertag.testing.simulator.normal import freeze, numbers_in, ranks, renumber, serials_in
from leadertag.testing.simulator.small import Member
from leadertag.testing.simulator.times import LONG_AGO, shifted, tidy
from tests.unit.election.driver import held, lead, released


def numbers(value: object) -> set[int]:
    found: set[int] = set()
    numbers_in(value, found)
    return found


def normal(value: LockView) -> object:
    return freeze(renumber(value, ranks(numbers(value)), {}))


def test_numbers_keep_their_order_and_zero_stays() -> None:
    assert ranks([30, 0, 7, 31]) == {0: 0, 7: 1, 30: 2, 31: 3}


def test_locks_that_differ_in_numbers_alone_are_one() -> None:
    assert normal(held(20, term=7)) == normal(held(99, term=12))
    assert normal(held(20, term=7)) != normal(held(7, term=20))
    assert normal(held(20, term=7)) != normal(held(20, "mine", term=7))
    assert normal(held(20, term=7)) != normal(held(20, term=7, phase=Phase.STUCK))


def test_what_only_people_read_is_left_out() -> None:
    assert normal(held(reason="why")) == normal(held(reason="why not"))


def test_a_gate_s_check_carries_its_term() -> None:
    check = Check(Gate("redis", 30).id, Health.PASSING, own=True)
    assert numbers(check) == {30}
    assert renumber(check, {0: 0, 30: 2}, {}).id == Gate("redis", 2).id
    assert renumber(Check("service", Health.PASSING), {0: 0}, {}).id == "service"


def test_what_was_done_for_a_vacancy_stays_done_for_it() -> None:
    """Numbers are renamed wherever they stand: else one vacancy is taken for another."""
    view = released(20)
    s = replace(lead().s, view=view, lease=None, shut=ev.ShutOutLost(40, "me", view, None))
    found: set[int] = set()
    serials_in(s, found)
    renamed = renumber(s, ranks(numbers(s)), ranks(found))
    assert renamed.view.index != 20
    assert renamed.shut.seen.index == renamed.view.index


def test_serials_are_told_by_what_waits() -> None:
    s = replace(lead().s, chore=None)
    waiting = replace(s, pending=ev.ReadMembers(40), serial=40, viewed=39, pictured=40)
    found: set[int] = set()
    serials_in(waiting, found)
    done = renumber(waiting, ranks(numbers(waiting)), ranks(found))
    assert found == {40}
    assert (done.pending.serial, done.viewed, done.pictured) == (1, 0, 1)


def test_time_moves_back_and_what_is_due_stays_due() -> None:
    s = replace(lead().s, confirmed_at=0.0, retry_at=0.2, registry_at=0.0)
    later = shifted(Member("alive", s), 0.5).standing
    assert later is not None
    assert (later.confirmed_at, later.retry_at) == (-0.5, 0.0)
    long_after = shifted(Member("alive", s), 500.0).standing
    assert long_after is not None
    assert long_after.confirmed_at == LONG_AGO


def test_times_on_which_nothing_hangs_are_all_the_same() -> None:
    follower = replace(lead().s, state="watching", lease=None, acting=False, pending=None)
    one = Member("alive", replace(follower, entered=-1.0, asked_at=-1.0, confirmed_at=-1.0))
    other = Member("alive", replace(follower, entered=-2.0, asked_at=-3.0, confirmed_at=-2.0))
    assert freeze(one) != freeze(other)
    assert freeze(tidy(one, planned=False)) == freeze(tidy(other, planned=False))
