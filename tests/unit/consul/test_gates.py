"""In which order the agent is told of heartbeats and gates: what comes late must open nothing.

The agent is a list of what it was asked here; that a real one behaves so is shown in
``tests/integration/consul/test_gates_on_consul.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leadertag.errors import BackendUnavailable, NotRegistered, PermissionDenied
from leadertag.model import Gate
from leadertag_consul import heart
from leadertag_consul.backend import Backend
from leadertag_consul.gates import Gates, latch, latch_check
from leadertag_consul.heart import TTL

GATE = Gate("redis", 7)
BEAT = ("pass", "leadertag:alive:own")
LOOK = ("look", "")


class Hands:
    """The monotonic clock, as the test has it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Agent:
    """Takes requests; answers none while it hangs."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.takes = 0.0
        self.asked: list[tuple[str, str]] = []
        self.hangs = False
        self.hangs_at: tuple[str, str] | None = None
        self.own = "own"
        """Whose heartbeat the gates follow."""
        self.checks = {GATE.id: "passing", latch(GATE): "critical"}

    def get(self, _: str) -> Any:
        self._take("look", "")
        notes = latch_check(GATE, self.own)["Notes"]
        raw = {
            name: {"Status": status, "ServiceID": "redis", "Notes": notes * ("latch" in name)}
            for name, status in self.checks.items()
        }
        return SimpleNamespace(data=raw)

    def verb(self, call: Callable[[Any], bool]) -> bool:
        told = SimpleNamespace(
            ttl_pass=lambda check: self._tell("pass", check, "passing"),
            ttl_fail=lambda check: self._tell("fail", check, "critical"),
        )
        return call(SimpleNamespace(agent=SimpleNamespace(check=told)))

    def put(self, path: str, _: object = None) -> None:
        self._take("put", path)

    def _tell(self, verb: str, check: str, status: str) -> bool:
        self._take(verb, check)
        self.checks[check] = status
        return True

    def _take(self, verb: str, what: str) -> None:
        self.asked.append((verb, what))
        self.clock.now += self.takes
        self.hangs = self.hangs or (verb, what) == self.hangs_at
        if self.hangs:
            raise BackendUnavailable("the agent hangs")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(heart, "time", hands)
    return hands


@pytest.fixture
def agent(clock: Hands) -> Agent:
    return Agent(clock)


@pytest.fixture
def made(agent: Agent, clock: Hands) -> Gates:
    return Gates(cast(Backend, SimpleNamespace(client=agent, own_service="own")))


def opened(made: Gates, agent: Agent) -> None:
    revivals, missing = made.prepare("redis", GATE)
    assert not missing
    made.armed(GATE, revivals)
    made.open("redis", GATE)
    agent.asked.clear()


def test_a_beat_in_time_is_one_request(made: Gates, agent: Agent, clock: Hands) -> None:
    opened(made, agent)
    for _ in range(3):
        clock.now += TTL - 0.1
        made.heartbeat()
    assert agent.asked == [BEAT] * 3


def test_nothing_is_fed_before_a_gate_is(made: Gates, agent: Agent) -> None:
    """What an earlier process of this member left open would be, too."""
    made.heartbeat()
    assert agent.asked == [LOOK]


def test_while_the_agent_hangs_no_beat_is_sent_that_could_revive(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    """Those sent before it ran out are carried out before it runs out, in the agent's line."""
    opened(made, agent)
    agent.hangs = True
    for _ in range(6):
        clock.now += TTL / 3
        with pytest.raises(BackendUnavailable):
            made.heartbeat()
    assert agent.asked == [BEAT, BEAT, *[("fail", latch(GATE))] * 4]


def test_a_late_answer_does_not_count_from_when_it_came(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    opened(made, agent)
    agent.takes = TTL
    made.heartbeat()
    agent.takes = 0.0
    agent.asked.clear()
    made.heartbeat()
    assert agent.asked == [("fail", latch(GATE)), LOOK, BEAT]


def test_what_ran_out_is_revived_behind_closed_latches(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    opened(made, agent)
    clock.now += TTL
    made.heartbeat()
    assert agent.asked == [("fail", latch(GATE)), LOOK, BEAT]
    clock.now += TTL
    made.heartbeat()
    assert agent.asked[3:] == [LOOK, BEAT]  # it is closed, and nobody's business any more


def test_the_first_beat_closes_what_an_earlier_process_left_open(made: Gates, agent: Agent) -> None:
    left = Gate("redis", 5)
    agent.checks |= {left.id: "critical", latch(left): "passing"}
    made.prepare("redis", GATE)
    assert agent.asked[:3] == [LOOK, ("fail", latch(left)), BEAT]


def test_what_follows_another_processs_heartbeat_is_left_alone(made: Gates, agent: Agent) -> None:
    agent.own = "another"
    agent.checks[latch(Gate("mysql", 5))] = "passing"
    made.prepare("redis", GATE)
    assert agent.asked[:2] == [LOOK, BEAT]


def test_an_alias_that_is_stuck_is_removed_before_it_is_registered_again(
    made: Gates, agent: Agent
) -> None:
    """Registered over itself it would get the status back that it had."""
    agent.checks[GATE.id] = "critical"
    _, missing = made.prepare("redis", GATE)
    assert agent.asked[-1] == ("put", f"/v1/agent/check/deregister/{GATE.id}")
    assert [made["CheckID"] for made in missing] == [GATE.id]


def test_no_gate_opens_whose_alias_the_catalog_has_not_shown(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    with pytest.raises(BackendUnavailable, match="had run out"):
        made.open("redis", GATE)
    made.armed(GATE, made.prepare("redis", GATE)[0])
    clock.now += TTL
    with pytest.raises(BackendUnavailable, match="had run out"):
        made.open("redis", GATE)
    assert ("pass", latch(GATE)) not in agent.asked


def test_a_gate_opens_after_a_beat_and_a_look(made: Gates, agent: Agent) -> None:
    made.armed(GATE, made.prepare("redis", GATE)[0])
    agent.asked.clear()
    made.open("redis", GATE)
    assert agent.asked == [BEAT, LOOK, ("pass", latch(GATE))]


def test_no_beat_follows_an_opening_that_was_not_answered(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    """Both would be done at once when the agent goes on, however late."""
    made.armed(GATE, made.prepare("redis", GATE)[0])
    agent.hangs_at = ("pass", latch(GATE))
    with pytest.raises(BackendUnavailable):
        made.open("redis", GATE)
    agent.asked.clear()
    with pytest.raises(BackendUnavailable):
        made.heartbeat()
    assert agent.asked == [("fail", latch(GATE))]
    agent.hangs, agent.hangs_at = False, None
    made.heartbeat()
    assert agent.asked[1:] == [("fail", latch(GATE)), LOOK, BEAT]


def test_an_opening_that_is_refused_closes_nothing_else(
    made: Gates, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(made, agent)
    other = Gate("mysql", 8)
    agent.checks |= {other.id: "passing", latch(other): "critical"}
    made.armed(other, made.prepare("redis", other)[0])

    def refuse(_: str, check: str, __: str) -> bool:
        if check == latch(other):
            raise PermissionDenied("not with this token")
        return True

    with monkeypatch.context() as patched:
        patched.setattr(agent, "_tell", refuse)
        with pytest.raises(PermissionDenied):
            made.open("redis", other)
    agent.asked.clear()
    made.heartbeat()
    assert agent.asked == [BEAT]


def test_a_gate_that_was_closed_or_removed_is_left_alone(
    made: Gates, agent: Agent, clock: Hands
) -> None:
    opened(made, agent)
    made.close("redis", GATE)
    clock.now += TTL
    agent.asked.clear()
    made.heartbeat()
    assert agent.asked == [LOOK, BEAT]
    opened(made, agent)
    made.remove("redis", keep=None)
    agent.checks.clear()
    with pytest.raises(BackendUnavailable, match="had run out"):  # to be tagged anew first
        made.open("redis", GATE)
    made.armed(GATE, made.prepare("redis", GATE)[0])
    with pytest.raises(NotRegistered):
        made.open("redis", GATE)
