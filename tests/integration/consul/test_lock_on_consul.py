"""What the lock does on a real Consul beyond the contract: its traps and its cost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from leadertag.errors import BackendUnavailable, Conflict, LeaseLost
from leadertag.model import Lease, LockView, Phase
from leadertag_consul import ConsulLock
from leadertag_consul.transport import RawAnswer, Transport
from tests.integration.consul.conftest import Process, context_of
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.processes import wait_until


def take(process: Process, key: str) -> Lease:
    lease = process.lock.acquire(process.lock.read(key), process.record())
    assert isinstance(lease, Lease)
    return lease


def session_info(agent: ConsulAgent, session: str) -> dict[str, object]:
    (info,) = agent.get(f"/v1/session/info/{session}")
    return dict(info)


def test_the_session_hangs_on_serf_with_ttl_and_without_delay(p1: Process) -> None:
    session = p1.lock.open("n1", ttl=3.0)
    info = session_info(p1.agent, session)
    assert info["NodeChecks"] == ["serfHealth"]
    assert info["TTL"] == "10000ms"
    assert info["LockDelay"] == 0
    assert info["Behavior"] == "release"
    assert str(info["Name"]).startswith("leadertag ")
    p1.lock.end()
    assert p1.agent.get(f"/v1/session/info/{session}") == []


def test_the_next_holder_owes_consul_no_delay(p1: Process, p2: Process, unique_name: str) -> None:
    """Destroying a session, not even releasing first, leaves the key free to take at once."""
    take(p1, unique_name)
    p1.lock.end()
    free = p2.lock.read(unique_name)
    assert free.free
    assert isinstance(p2.lock.acquire(free, p2.record()), Lease)


def test_a_session_of_another_node_is_not_taken_up(
    p1: Process, p2: Process, consul_servers: ConsulCluster
) -> None:
    foreign = p2.lock.open("n2", ttl=10.0)
    mine = p1.lock.open("n1", ttl=10.0, session=foreign)
    assert mine != foreign
    assert p1.lock.open("n1", ttl=10.0, session="no uuid") not in (mine, foreign, "no uuid")


def test_without_serf_health_the_session_still_opens(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    cluster = make_cluster(agents=1)
    agent = cluster.agent("n1")
    cluster.server.api("PUT", "/v1/catalog/deregister", {"Node": "n1", "CheckID": "serfHealth"})
    process = start(agent)
    session = process.lock.open("n1", ttl=10.0)
    assert session_info(agent, session)["NodeChecks"] in ([], None)
    assert isinstance(take(process, "redis/master"), Lease)


def test_the_term_is_the_index_of_the_acquisition(p1: Process, unique_name: str) -> None:
    lease = take(p1, unique_name)
    (pair,) = p1.agent.get(f"/v1/kv/leadertag/locks/{unique_name}")
    assert pair["Session"] == lease.session
    assert pair["CreateIndex"] == lease.term  # a new key: created by the acquisition
    assert pair["ModifyIndex"] == lease.index > lease.term


def test_a_foreign_value_is_left_as_it_is(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    path = f"/v1/kv/leadertag/locks/{unique_name}"
    unseen = p1.lock.read(unique_name)
    n1.api("PUT", path, b"not yours")
    before = n1.get(path)
    for seen in (unseen, p1.lock.read(unique_name)):
        with pytest.raises(Conflict, match="not leadertag's"):
            p1.lock.acquire(seen, p1.record())
    assert n1.get(path) == before


def test_a_value_put_over_a_held_lock_loses_it_and_can_be_discarded(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    """A plain PUT keeps the session: only the missing term tells."""
    lease = take(p1, unique_name)
    n1.api("PUT", f"/v1/kv/leadertag/locks/{unique_name}", b"oops")
    view = p1.lock.read(unique_name)
    assert (view.holder, view.foreign) == (lease.session, True)
    assert p1.lock.confirm([lease]) == frozenset()
    with pytest.raises(LeaseLost):
        p1.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
    p1.lock.discard(view)
    (pair,) = n1.get(f"/v1/kv/leadertag/locks/{unique_name}")
    assert "Session" not in pair
    assert pair["Value"] == "b29wcw=="  # kept


def test_a_deleted_key_is_lost_and_its_late_messages_are_harmless(
    p1: Process, p2: Process, n1: ConsulAgent, unique_name: str
) -> None:
    lease, other = take(p1, unique_name), take(p1, unique_name + "-other")
    n1.api("DELETE", f"/v1/kv/leadertag/locks/{unique_name}")
    assert p1.lock.confirm([lease, other]) == {other.key}
    assert p1.lock.read(unique_name) == LockView(unique_name)
    successor = take(p2, unique_name)
    assert successor.term > lease.term
    for write in (p1.lock.update, p1.lock.release):
        with pytest.raises(LeaseLost):
            write(lease, lease.record)
    assert p2.lock.confirm([successor]) == {unique_name}


def test_an_acquisition_cut_in_half_can_be_discarded(
    p1: Process, p2: Process, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies, or the answer is lost, between the lock and the term."""

    def lost(*_: object) -> Lease:
        raise BackendUnavailable("the answer never came")

    with monkeypatch.context() as patch:
        patch.setattr(p1.lock, "_replace", lost)
        with pytest.raises(BackendUnavailable):
            p1.lock.acquire(p1.lock.read(unique_name), p1.record())
    view = p1.lock.read(unique_name)
    assert view.record is not None
    assert view.record.term == 0
    with pytest.raises(LeaseLost):  # no term: nothing to adopt
        p1.lock.adopt(view, p1.record())
    p1.lock.discard(view)
    assert not p2.lock.read(unique_name).marked
    take(p2, unique_name)


def test_what_changes_between_look_and_write_is_not_overwritten(
    p1: Process, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look gives the better message; the index in the transaction gives the safety."""
    stale = take(p1, unique_name)
    current = p1.lock.update(stale, replace(stale.record, phase=Phase.LEADING))
    before = p1.lock.read(unique_name)
    monkeypatch.setattr(p1.lock, "_check_term", lambda lease: None)
    for write in (p1.lock.update, p1.lock.release):
        with pytest.raises(LeaseLost):
            write(stale, replace(stale.record, phase=Phase.RELEASED))
    assert p1.lock.read(unique_name) == before
    assert p1.lock.confirm([current]) == {unique_name}


def test_confirming_and_keeping_alive_write_nothing(
    p1: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    leases = [take(p1, f"{unique_name}-{n}") for n in range(3)]
    sessions, index = consul_servers.sessions(), consul_servers.raft_index()
    for _ in range(20):
        assert len(p1.lock.confirm(leases)) == 3
        p1.lock.keep_alive()
    assert consul_servers.wrote_nothing_since(index)
    assert len(consul_servers.sessions()) == len(sessions)


def test_a_watch_on_nothing_does_not_spin(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    """A missing prefix blocks on the whole KV store: each write anywhere wakes it."""
    lock = ConsulLock.create(context_of(n1, prefix=unique_name))
    watch = lock.watch(["a"])
    assert watch.poll(0) == {"a": LockView("a")}
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            n1.api("PUT", f"/v1/kv/{unique_name}-elsewhere", b"x")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        polls = [watch.poll(0.2) for _ in range(10)]
    finally:
        stop.set()
        writer.join()
    assert polls == [None] * 10
    p1_like = lock.open("n1", ttl=10.0)
    lock.acquire(LockView("a"), p1.record())
    seen = None
    for _ in range(50):
        seen = watch.poll(0.2) or seen
        if seen and seen["a"].record and seen["a"].record.term:
            break
    assert seen is not None
    assert seen["a"].holder == p1_like
    watch.close()
    lock.end()


def test_a_quiet_watch_is_one_request(
    p1: Process, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the server that waits, not a loop here."""
    take(p1, unique_name)
    sent: list[str] = []
    request = Transport.request

    def counted(self: Transport, method: str, target: str, *rest: Any) -> RawAnswer:
        sent.append(target)
        return request(self, method, target, *rest)

    watch = p1.lock.watch([unique_name])
    assert watch.poll(1.0)
    wait_until(lambda: watch.poll(0.1) is None, 10, "the watch is quiet")
    monkeypatch.setattr(Transport, "request", counted)
    assert watch.poll(1.0) is None
    assert len(sent) == 1
    assert "index=" in sent[0]
    assert "wait=" in sent[0]
    watch.close()


def test_a_watch_survives_an_index_that_goes_back(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """A restored snapshot takes the index backwards and brings an old holder back."""
    cluster = make_cluster(agents=1)
    agent = cluster.agent("n1")
    process = start(agent)
    lease = take(process, "k")
    snapshot = _snapshot(agent)
    watch = process.lock.watch(["k"])
    assert watch.poll(1.0) is not None
    process.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
    for n in range(20):
        agent.api("PUT", f"/v1/kv/leadertag/locks/other-{n}", b"")
    seen = watch.poll(5.0)
    assert seen is not None
    wait_until(lambda: watch.poll(0.1) is None, 5, "the watch is quiet")
    _restore(agent, snapshot)
    views: list[LockView] = []

    def back() -> bool:
        found = watch.poll(0.5)
        if found is not None:
            views.append(found["k"])
        return bool(views) and views[-1].holder == lease.session

    wait_until(back, 15, "the watch shows the restored holder")
    watch.close()


def test_watching_many_keys_is_one_request(p1: Process, unique_name: str) -> None:
    keys = [f"{unique_name}-{n}" for n in range(50)]
    watch = p1.lock.watch(keys)
    first = watch.poll(1.0)
    assert first is not None
    assert set(first) == set(keys)
    lease = take(p1, keys[7])
    for _ in range(20):
        seen = watch.poll(2.0)
        if seen and seen[keys[7]].index == lease.index:
            break
    else:
        raise AssertionError("the acquisition was never seen")
    watch.close()


def _snapshot(agent: ConsulAgent) -> bytes:
    import http.client

    connection = http.client.HTTPConnection(agent.ip, 8500, timeout=30)
    connection.request("GET", "/v1/snapshot")
    body = connection.getresponse().read()
    connection.close()
    return body


def _restore(agent: ConsulAgent, snapshot: bytes) -> None:
    agent.api("PUT", "/v1/snapshot", snapshot, timeout=60)
