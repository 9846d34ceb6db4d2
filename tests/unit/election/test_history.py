"""The checker itself: every promise can be seen to be broken, and kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.hookspecs import HookEvent
from leadertag.model import Gate, TagChange
from leadertag.testing.history import Broken, History

Story = Callable[[History], object]


def _acting_twice(h: History) -> None:
    h.began(1.0, "a", 5)
    h.began(2.0, "b", 6)


def _acting_with_an_old_term(h: History) -> None:
    h.began(1.0, "a", 5)
    h.ended("a")
    h.began(2.0, "b", 5)


def _marking_while_acting(h: History) -> None:
    h.began(1.0, "a", 5)
    h.released("a")


def _resolving_before_promoted(h: History) -> None:
    h.hook_began("a", 1, HookEvent.PROMOTE)
    h.resolvable(1.0, 20, ["a"])


def _terms_repeat(h: History) -> None:
    h.given("a", 5)
    h.given("b", 5)


def _two_hooks(h: History) -> None:
    h.hook_began("a", 1, HookEvent.FOLLOW)
    h.hook_began("a", 2, HookEvent.DEMOTE)


def _hollow_for_too_long(h: History) -> None:
    h.hollow(1.0, ["a"], 2.0)
    h.hollow(3.1, ["a", "b"], 2.0)


BROKEN: list[tuple[str, Story]] = [
    ("I1", _acting_twice),
    ("I1", _marking_while_acting),
    ("I2", lambda h: h.resolvable(1.0, 20, ["a", "b"])),
    ("I2", _resolving_before_promoted),
    ("I2", lambda h: h.opening("a", Gate("e", 5), proven=False)),
    ("I3", _acting_with_an_old_term),
    ("I3", _terms_repeat),
    ("I3", lambda h: h.told("a", HookEvent.DEMOTE, 4, 5)),
    ("I5", _hollow_for_too_long),
    ("I4", lambda h: h.changing("a", TagChange(add=("blue",)), None, 5)),
    ("I4", lambda h: h.changing("a", TagChange(remove=("blue",)), None, 5)),
    ("I4", lambda h: h.changing("a", TagChange(add=("master",)), Gate("e", 4), 5)),
    ("I4", lambda h: h.registered("a", ("blue", "slave"), ("master",))),
    ("I4", lambda h: h.registered("a", ("blue", "red"), ("red", "blue"))),
    ("I7", lambda h: h.believed("a", "nobody leads", complete=False)),
    ("I8", _two_hooks),
]


@pytest.mark.parametrize(("promise", "story"), BROKEN)
def test_a_broken_promise_is_seen(promise: str, story: Story) -> None:
    with pytest.raises(Broken) as broken:
        story(History())
    assert broken.value.promise == promise
    assert str(broken.value).startswith(f"{promise}: ")


def test_a_history_without_fault_is_fine() -> None:
    h = History()
    h.given("a", 5)
    h.hook_began("a", 1, HookEvent.PROMOTE)
    h.began(1.0, "a", 5)
    h.began(1.1, "a", 5)  # asked for again: hooks are idempotent
    h.hook_ended("a", 1)
    h.changing("a", TagChange(("master",), ("slave",)), Gate("e", 5), 5)
    h.registered("a", ("blue", "slave"), ("blue", "master"))
    h.resolvable(1.2, 20, ["a"])
    h.resolvable(1.3, 21, [])
    h.told("a", HookEvent.DEMOTE, 5, 5)
    h.ended("a")
    h.released("a")
    h.given("b", 6)
    h.began(2.0, "b", 6)
    h.believed("b", "nobody leads", complete=True)
    assert h.published == 1


def test_who_leads_again_in_between_was_not_hollow_all_the_time() -> None:
    h = History()
    h.hollow(1.0, ["a"], 2.0)
    h.hollow(2.5, [], 2.0)
    h.hollow(3.5, ["a"], 2.0)
    with pytest.raises(Broken, match=r"a resolves as leader for 2.5 s although its service"):
        h.hollow(6.0, ["a"], 2.0)


def test_an_excused_leader_does_not_count_until_it_acts_anew() -> None:
    h = History()
    h.began(1.0, "a", 5)
    h.excuse("a", "demote and fence failed")
    h.began(2.0, "b", 6)
    h.ended("a")
    h.ended("b")
    h.began(3.0, "a", 7)
    with pytest.raises(Broken, match="I1"):
        h.began(4.0, "b", 8)


def test_informational_hooks_run_beside_the_others() -> None:
    h = History()
    h.hook_began("a", 1, HookEvent.PROMOTE)
    h.hook_began("a", 2, HookEvent.ROLE_CHANGED)
    h.hook_ended("a", 1)
    h.hook_began("a", 3, HookEvent.DEMOTE)
