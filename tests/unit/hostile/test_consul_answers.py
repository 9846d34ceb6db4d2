"""Whatever answers on the agent's port: a result, or one line; never another action.

The providers are the real ones; only the connection is replaced, by one that answers as
Consul 1.8.7 did in every respect but the one that an example changes.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, LeaderTagError, LeaseLost
from leadertag.model import Gate, Instance, Lease, LockView, Phase, QueryDefinition, Record
from leadertag.model import TagChange as Change
from leadertag.providers import BackendContext
from leadertag_consul import ConsulLock, ConsulQuery, ConsulRegistry
from leadertag_consul import client as client_module
from leadertag_consul.gates import latch
from leadertag_consul.transport import RawAnswer
from tests.unit.hostile.anything import bytes_like, hostile, outcome, texts

SESSION = "91ba298d-1cbe-1edd-f17c-86ae54105e7f"
KEY = "leadertag/locks/redis/q"
GATE = Gate("redis", 7)
RECORD = Record("n1/r1", "r1", "n1", "10.0.0.1", 6379, Phase.ELECTED, term=7, lease=3.0)
LEASE = Lease("redis/q", 7, 9, SESSION, RECORD)
JSON = "application/json"


def pair(value: str | None = None, **fields: Any) -> dict[str, Any]:
    import base64

    coded = base64.b64encode(RECORD.encode()).decode() if value is None else value
    return {"LockIndex": 1, "Key": KEY, "Flags": 0, "Value": coded, "Session": SESSION,
            "CreateIndex": 3, "ModifyIndex": 9, **fields}  # fmt: skip


SERVICE = {
    "ID": "r1", "Service": "redis", "Tags": ["sensu"], "Meta": {"rack": "1"}, "Port": 6379,
    "Address": "10.0.0.1", "Weights": {"Passing": 3, "Warning": 1}, "EnableTagOverride": False,
}  # fmt: skip
CHECKS: list[dict[str, Any]] = [
    {"Node": "n1", "CheckID": name, "Name": name, "Status": "passing", "Notes": "", "Output": "",
     "ServiceID": service, "ServiceName": "redis" if service else "", "ServiceTags": [],
     "Type": "ttl", "Definition": {}, "CreateIndex": 10, "ModifyIndex": 10}
    for name, service in (
        ("tcp", "r1"), (GATE.id, "r1"), (latch(GATE), "r1"), ("serfHealth", "")
    )
]  # fmt: skip
NODE = {"ID": "e4e7db1e", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"}
ENTRY = {"Node": NODE, "Service": SERVICE, "Checks": CHECKS}
QUERY = {
    "ID": "0e40205e", "Name": "q", "Session": "", "Token": "", "Template": {"Type": ""},
    "Service": {"Service": "redis", "Failover": {"NearestN": 0, "Datacenters": None},
                "OnlyPassing": True, "Near": "", "Tags": ["master"], "NodeMeta": None,
                "ServiceMeta": None},
    "DNS": {"TTL": ""},
}  # fmt: skip
GENUINE: Mapping[str, Any] = {
    r"GET /v1/kv/.*": [pair()],
    r"PUT /v1/txn": {"Results": [{"KV": pair()}, {"KV": pair()}], "Errors": None},
    r"PUT /v1/session/create": {"ID": SESSION},
    r"PUT /v1/session/renew/.*": [{"ID": SESSION, "Node": "n1", "TTL": "10s"}],
    r"GET /v1/agent/self": {"Config": {"NodeName": "n1"}, "Member": {"Addr": "10.0.0.1"}},
    r"GET /v1/agent/services": {"r1": SERVICE},
    r"GET /v1/agent/service/.*": {**SERVICE, "ContentHash": "11b1e91d62e4764b"},
    r"GET /v1/agent/checks": {check["CheckID"]: check for check in CHECKS},
    r"GET /v1/health/service/.*": [ENTRY],
    r"GET /v1/health/(node|checks)/.*": CHECKS,
    r"GET /v1/catalog/node/.*": {"Node": NODE, "Services": {"r1": SERVICE}},
    r"GET /v1/query": [QUERY],
    r"GET /v1/query/.*/execute": {"Service": "redis", "Nodes": [ENTRY]},
    r"(PUT|POST|DELETE) .*": None,
}
"""What Consul answers to a request, the first that fits."""


@dataclass
class Agent:
    """Answers every connection. ``changed`` replaces the answer to one kind of request."""

    changed: str = ""
    answer: RawAnswer | None = None
    asked: list[str] = field(default_factory=list)
    sent: list[tuple[str, bytes | None]] = field(default_factory=list)

    def respond(self, method: str, target: str, body: bytes | None) -> RawAnswer:
        request = f"{method} {target.partition('?')[0]}"
        kind = next(kind for kind in GENUINE if re.fullmatch(kind, request))
        self.asked.append(kind)
        self.sent.append((request, body))
        assert len(self.asked) < 500, f"asks again and again: {self.asked[-3:]}"
        if kind == self.changed and self.answer is not None:
            return self.answer
        content = GENUINE[kind]
        return made(200, b"" if content is None else json.dumps(content).encode())


def made(status: int, body: bytes, index: str = "9", kind: str = JSON) -> RawAnswer:
    headers = http.client.HTTPMessage()
    headers["Content-Type"], headers["X-Consul-Index"] = kind, index
    return RawAnswer(status, headers, body)


AGENT = Agent()


class Connection:
    """Stands in the transport's place."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Takes what the transport takes."""

    def request(
        self, method: str, target: str, headers: Any, body: bytes | None, extra: float
    ) -> RawAnswer:
        return AGENT.respond(method, target, body)

    def abort(self) -> None:
        """Nothing is under way."""

    close = abort


@pytest.fixture(autouse=True)
def _connected() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "Transport", Connection)
        yield


@dataclass
class Process:
    """The providers, with a session open."""

    lock: ConsulLock
    registry: ConsulRegistry
    query: ConsulQuery

    @classmethod
    def start(cls) -> Process:
        context = BackendContext(Table({"address": "http://127.0.0.1:8500"}, "test"), {})
        lock, registry = ConsulLock.create(context), ConsulRegistry.create(context)
        made = cls(lock, registry, ConsulQuery.create(context))
        made.lock.open("me", ttl=10.0)
        return made


def snapshot(watch: Any) -> Any:
    try:
        return watch.poll(0.0)
    finally:
        watch.close()


def tagged(process: Process) -> Process:
    """As if the catalog had shown the tag and the closed gate: else nothing is fed or opened."""
    process.registry._gates.armed(GATE, 1)
    return process


VERBS: Mapping[str, Callable[[Process], Any]] = {
    "open": lambda p: p.lock.open("me", ttl=10.0),
    "open again": lambda p: p.lock.open("me", ttl=10.0, session=SESSION),
    "keep_alive": lambda p: p.lock.keep_alive(),
    "acquire": lambda p: p.lock.acquire(LockView("redis/q"), RECORD),
    "update": lambda p: p.lock.update(LEASE, RECORD),
    "release": lambda p: p.lock.release(LEASE, RECORD),
    "discard": lambda p: p.lock.discard(LockView("redis/q", 9, SESSION)),
    "adopt": lambda p: p.lock.adopt(LockView("redis/q", 9, SESSION, RECORD), RECORD),
    "confirm": lambda p: p.lock.confirm([LEASE]),
    "read": lambda p: p.lock.read("redis/q"),
    "watch locks": lambda p: snapshot(p.lock.watch(["redis/q"])),
    "local": lambda p: p.registry.local("redis"),
    "members": lambda p: p.registry.members("redis"),
    "tag": lambda p: p.registry.tag("r1", Change(add=("master",)), timeout=0.01),
    "tag and gate": lambda p: p.registry.tag("r1", Change(), gate=GATE, timeout=0.01),
    "open_gate": lambda p: tagged(p).registry.open_gate("r1", GATE),
    "close_gate": lambda p: p.registry.close_gate("r1", GATE),
    "remove_gates": lambda p: p.registry.remove_gates("r1"),
    "shut_out": lambda p: p.registry.shut_out(Instance("r1", "n1", "redis", "", 0), LEASE),
    "shut_out_lost": lambda p: p.registry.shut_out_lost(
        Instance("r1", "n1", "redis", "", 0, gate=7), LockView("redis/q", 9)
    ),
    "heartbeat": lambda p: tagged(p).registry.heartbeat(),
    "watch own": lambda p: [snapshot(w) for w in p.registry.watch([("redis", "")])],
    "watch members": lambda p: snapshot(p.registry.watch_members("redis")),
    "ensure": lambda p: p.query.ensure(QueryDefinition("q", "redis", ("master",))),
    "resolve": lambda p: p.query.resolve("q"),
    "list": lambda p: p.query.list(),
    "remove": lambda p: p.query.remove("q"),
}  # fmt: skip


def run(verb: str, changed: str = "", answer: RawAnswer | None = None) -> Any:
    """Run a verb against an agent that answers one kind of request otherwise."""
    global AGENT  # noqa: PLW0603 - what connections find, made anew for each example
    AGENT = Agent()
    process = Process.start()
    AGENT = Agent(changed, answer)
    return outcome(lambda: VERBS[verb](process))


def asked_by(verb: str) -> list[str]:
    run(verb)
    return sorted(set(AGENT.asked))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_genuine_answers_are_understood(verb: str) -> None:
    """Else the other tests would show nothing."""
    found = run(verb)
    allowed = (BackendUnavailable,) if verb.startswith("tag") else ()  # nothing shows the tag
    assert not isinstance(found, LeaderTagError) or isinstance(found, allowed), found


@pytest.mark.parametrize("verb", sorted(VERBS))
@given(st.data())
@hostile(25)
def test_wrong_bodies(verb: str, data: st.DataObject) -> None:
    changed = data.draw(st.sampled_from(asked_by(verb)))
    body = data.draw(bytes_like(GENUINE[changed]))
    sane(run(verb, changed, made(200, body)))


HEADERS = st.sampled_from((JSON, "text/html", "text/plain; charset=utf-8", "", "\x00"))
STATUSES = st.sampled_from((200, 201, 204, 206, 301, 302, 400, 401, 403, 404, 409, 429, 500, 503))
INDEXES = st.sampled_from(("9", "", "0", "-1", "1e9", "9" * 4301, "\u0663", "18446744073709551616"))


@pytest.mark.parametrize("verb", sorted(VERBS))
@given(st.data(), STATUSES, HEADERS, INDEXES)
@hostile(15)
def test_wrong_answers(verb: str, data: st.DataObject, status: int, kind: str, index: str) -> None:
    changed = data.draw(st.sampled_from(asked_by(verb)))
    genuine = json.dumps(GENUINE[changed]).encode()
    page = st.sampled_from((b"", b"null", b"[]", b"{}", b"<html>404 not found</html>", b"true"))
    body = data.draw(page | st.just(genuine) | texts.map(lambda t: t.encode(errors="replace")))
    sane(run(verb, changed, made(status, body, index, kind)))


def sane(found: Any) -> None:
    """Every field of a result has its type, whatever it was made of."""
    if isinstance(found, (tuple, list)):
        for one in found:
            sane(one)
    elif isinstance(found, Mapping):
        for one in found.values():
            sane(one)
    elif isinstance(found, LockView):
        assert isinstance(found.index, int)
        assert isinstance(found.holder, str)
    elif isinstance(found, Lease):
        assert found.term > 0
    elif isinstance(found, Instance):
        for text in (found.id, found.node, found.service, found.address, *found.tags):
            assert isinstance(text, str)
        assert isinstance(found.port, int)


# -- no other action ---------------------------------------------------------------------

NOT_CONSULS = {
    "an empty page": made(200, b""),
    "null": made(200, b"null"),
    "an empty list": made(200, b"[]"),
    "an empty list without an index": made(200, b"[]", index=""),
    "an empty object": made(200, b"{}"),
    "HTML": made(200, b"<html></html>", kind="text/html; charset=utf-8"),
    "a redirection": made(302, b""),
    "a proxy's 404": made(404, b"404 page not found", index=""),
    "an HTML 404": made(404, b"<h1>Not Found</h1>", kind="text/html"),
    "a conflict": made(409, b""),
    "no content": made(204, b""),
}
WRITES = ("acquire", "adopt", "discard", "release", "update")


@pytest.mark.parametrize("case", sorted(NOT_CONSULS))
@pytest.mark.parametrize("verb", ["read", "watch locks"])
def test_nothing_but_consuls_own_404_means_that_there_is_no_lock(verb: str, case: str) -> None:
    """A leader would take it for the loss of its lock, a follower for a vacancy (I7)."""
    found = run(verb, r"GET /v1/kv/.*", NOT_CONSULS[case])
    assert isinstance(found, BackendUnavailable), found


def test_consuls_own_404_is_a_lock_that_does_not_exist() -> None:
    assert run("read", r"GET /v1/kv/.*", made(404, b"", "1")) == LockView("redis/q")


@pytest.mark.parametrize("case", sorted(NOT_CONSULS))
@pytest.mark.parametrize("verb", [*WRITES, "confirm", "shut_out", "shut_out_lost"])
def test_no_transaction_counts_that_consul_has_not_confirmed(verb: str, case: str) -> None:
    found = run(verb, r"PUT /v1/txn", NOT_CONSULS[case])
    assert isinstance(found, BackendUnavailable), found


@pytest.mark.parametrize("verb", [*WRITES, "confirm", "shut_out", "shut_out_lost"])
def test_an_answer_to_another_transaction_counts_for_nothing(verb: str) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"Results": [{"KV": pair(Key="leadertag/locks/other")}], "Errors": None},
        {"Results": None, "Errors": [{"OpIndex": 63, "What": "stale"}]},
        {"Results": [], "Errors": None},
    )
    for other in others:
        found = run(verb, r"PUT /v1/txn", made(200, json.dumps(other).encode()))
        assert isinstance(found, BackendUnavailable), found


@pytest.mark.parametrize("case", sorted(NOT_CONSULS))
@pytest.mark.parametrize("verb", ["keep_alive", "open again"])
def test_a_session_is_gone_only_where_consul_says_so(verb: str, case: str) -> None:
    found = run(verb, r"PUT /v1/session/renew/.*", NOT_CONSULS[case])
    assert isinstance(found, BackendUnavailable), found


def test_consuls_own_words_end_a_session() -> None:
    said = f"Session id '{SESSION}' not found".encode()
    found = run("keep_alive", r"PUT /v1/session/renew/.*", made(404, said, "", "text/plain"))
    assert isinstance(found, LeaseLost)


@pytest.mark.parametrize("lacking", sorted({*SERVICE, "ContentHash"}))
def test_a_registration_that_lacks_anything_is_not_written_back(lacking: str) -> None:
    """Consul would take what is missing for what is to be removed (I4)."""
    cut = {k: v for k, v in GENUINE[r"GET /v1/agent/service/.*"].items() if k != lacking}
    found = run("tag", r"GET /v1/agent/service/.*", made(200, json.dumps(cut).encode()))
    assert isinstance(found, BackendUnavailable), found
    assert not [request for request, _ in AGENT.sent if "register" in request]


@pytest.mark.parametrize("case", sorted(NOT_CONSULS))
def test_a_gate_is_closed_only_where_the_agent_took_it(case: str) -> None:
    """Only 2xx means that: nobody else's page does."""
    found = run("close_gate", r"(PUT|POST|DELETE) .*", NOT_CONSULS[case])
    taken = NOT_CONSULS[case].status < 300 and case != "HTML"
    assert (found is None) == taken, found


# -- blocking reads -----------------------------------------------------------------------


class Pauses(threading.Event):
    """Notes each pause instead of making it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.made.append(timeout)
        return False


def locks_answered(*answers: tuple[str, int]) -> tuple[list[Any], Pauses]:
    """Poll a watch for each answer, given as index and ModifyIndex of the lock."""
    global AGENT  # noqa: PLW0603 - see above
    AGENT = Agent()
    watch: Any = Process.start().lock.watch(["redis/q"])
    watch._closed = pauses = Pauses()
    told = []
    for index, modified in answers:
        body = json.dumps([pair(ModifyIndex=modified)]).encode()
        AGENT = Agent(r"GET /v1/kv/.*", made(200, body, index))
        snapshot = watch.poll(10.0)
        told.append(snapshot["redis/q"].index if snapshot else None)
    watch.close()
    return told, pauses


def test_an_index_that_is_repeated_at_once_is_read_with_pauses() -> None:
    """A cache may answer at once what Consul would wait with: nobody spins over that."""
    told, pauses = locks_answered(("7", 9), ("7", 9), ("7", 9), ("7", 9))
    assert told == [9, None, None, None]
    assert len(pauses.made) == 3
    assert all(pauses.made)


def test_what_has_changed_is_told_whatever_the_index_says() -> None:
    told, _ = locks_answered(("7", 9), ("7", 10), ("3", 11), ("3", 12), ("9" * 19, 13), ("4", 14))
    assert told == [9, 10, 11, 12, 13, 14]
