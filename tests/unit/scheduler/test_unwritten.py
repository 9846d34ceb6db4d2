"""Nobody is promoted whose leadership the guardian could not know of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.states import State
from leadertag.hookspecs import HookEvent
from leadertag.model import Check, Health, Instance, Lease, LockView, Phase, Record
from leadertag.scheduler.member import Member
from leadertag.scheduler.memory import MemberFile

ME = Instance("r", "n1", "redis", "10.0.0.1", 6379, (), (Check("tcp", Health.PASSING),))
GONE = LockView("redis/q", 8, "", Record("n2/r", "r", "n2", "10.0.0.2", 6379, Phase.RELEASED, 7))


class Fixed:
    """A clock that stands still."""

    def now(self) -> float:
        return 1000.0

    def boot(self) -> str:
        return "b"


def about_to_promote(folder: Path, told: list[ev.Event]) -> tuple[Member, ev.Done]:
    """Return a member, and the event that makes it promote."""
    providers, hooks = MagicMock(), MagicMock()
    providers.registry.characteristics = frozenset()
    providers.registry.gate_life = 2.0
    hooks.budget.side_effect = lambda event: 0.5 if event is HookEvent.PROMOTE else 0.0
    election = ElectionSettings("redis", "redis", "here", query="q", lease=10.0)
    member = Member("t", election, providers, hooks, Fixed(), ThreadPoolExecutor(1),
                    lambda _, event: told.append(event))  # fmt: skip
    member.admit(ME, str(folder), {})
    for event in (ev.SessionOpened(1000.0, "s"), ev.InstanceSeen(1000.0, ME)):
        member.take(event)
    member.take(ev.LockSeen(1000.0, GONE))
    asked = member.standing.pending
    assert isinstance(asked, ev.Acquire)
    return member, ev.Done(1000.0, asked, Lease("redis/q", 9, 9, "s", asked.record))


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_without_memory_there_is_no_promotion(tmp_path: Path) -> None:
    told: list[ev.Event] = []
    member, granted = about_to_promote(tmp_path, told)
    with patch.object(MemberFile, "store", full), patch.object(Member, "_dispatch") as dispatch:
        member.take(granted)
        ran = [call.args[0] for call in dispatch.call_args_list]
    assert member.standing.pending is not None, "it is about to promote"
    assert not [effect for effect in ran if isinstance(effect, ev.RunHook)]
    (refused,) = [e for e in told if isinstance(e, ev.Done) and isinstance(e.effect, ev.RunHook)]
    assert refused.value.message == "cannot write its memory: No space left on device"
    member.take(refused)
    assert member.standing.state is State.RELEASING
    member.close()


def test_with_memory_there_is(tmp_path: Path) -> None:
    member, granted = about_to_promote(tmp_path, [])
    with patch.object(Member, "_dispatch") as dispatch:
        member.take(granted)
        ran = [call.args[0] for call in dispatch.call_args_list]
    assert [effect for effect in ran if isinstance(effect, ev.RunHook)]
    member.close()
