"""What the guardian is told: only a confirmation may move a deadline later."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from leadertag.config.settings import ElectionSettings
from leadertag.election.deadlines import ADOPT_WITHIN, GUARDIAN_LAG
from leadertag.election.events import Memory
from leadertag.model import Instance, Lease, Phase, Record
from leadertag.scheduler.member import Member
from leadertag.scheduler.memory import MemberFile

NOW = 1000.0
RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=10.0)
MEMORY = Memory(session="s", lease=Lease("redis/q", 7, 9, "s", RECORD), term=7, state="leading",
                acting=True)  # fmt: skip


class Fixed:
    """A clock that stands still."""

    def now(self) -> float:
        return NOW

    def boot(self) -> str:
        return "b"


def restarted(folder: Path, confirmed_at: float, budget: float = 0.5) -> Member:
    """Return a member whose process before was last confirmed at that time."""
    file = MemberFile(str(folder), "redis/q", "n1/r", Fixed())
    assert file.take({})
    file.store(replace(MEMORY, confirmed_at=confirmed_at))
    file.give_back()
    providers, hooks = MagicMock(), MagicMock()
    providers.registry.characteristics = frozenset()
    providers.registry.gate_life = 2.0
    hooks.budget.return_value = budget
    election = ElectionSettings("redis", "redis", "here", query="q", lease=10.0)
    pool = ThreadPoolExecutor(1)
    member = Member("t", election, providers, hooks, Fixed(), pool, lambda *_: None)
    assert member.admit(Instance("r", "n1", "redis", "10.0.0.1", 6379), str(folder), {})
    return member


@pytest.mark.parametrize(
    ("left", "allowed"),
    [(0.5, 0.5), (ADOPT_WITHIN + 3, ADOPT_WITHIN), (-1.0, ADOPT_WITHIN)],
)
def test_a_restart_never_moves_a_deadline_that_is_ahead(
    left: float, allowed: float, tmp_path: Path
) -> None:
    limit = 0.9 * 10.0 - 0.5 - 0.5 - 0.1
    member = restarted(tmp_path, NOW + left - limit)
    hold = member.hold()
    assert hold is not None
    assert hold.strike_at == pytest.approx(NOW + allowed + GUARDIAN_LAG)
    member.close()


def test_the_guardian_is_ready_before_it_has_to_strike(tmp_path: Path) -> None:
    """Also where the hooks leave it less than the three confirmations that it usually waits."""
    member = restarted(tmp_path, NOW, budget=3.0)
    hold = member.hold()
    assert hold is not None
    assert hold.strike_at - hold.prepare_at >= 10.0 / 8
    member.close()
