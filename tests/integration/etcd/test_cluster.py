"""Three members: their leader killed, quorum lost and regained, members that hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from leadertag.errors import BackendError, BackendUnavailable, LeaseLost
from leadertag.model import Phase
from leadertag.testing.contracts.harness import settle, snapshot_where
from tests.integration.etcd.process import PATIENCE, Process, answered, leader_of
from tests.tools.etcd import EtcdCluster, EtcdMember
from tests.tools.processes import wait_until

KEY = "redis/master"


@contextmanager
def kept_alive(process: Process) -> Iterator[None]:
    """Keep the session alive as the daemon does; a failure is tried again."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.5):
            try:
                process.lock.keep_alive()
            except BackendUnavailable:
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_killing_the_etcd_leader_loses_nothing(
    three: EtcdCluster, start: Callable[..., Process]
) -> None:
    leader = leader_of(three.members)
    # Both talk to the member that dies.
    others = [member.address for member in three.members if member is not leader]
    holder = start("n1", [leader.address, *others])
    reader = start("n2", [leader.address, *others])
    holder.lock.open("a", ttl=6.0)
    lease = holder.take(KEY)
    watch = reader.lock.watch([KEY])
    settle(watch, 0.3, PATIENCE)
    with kept_alive(holder):
        leader.process.kill()
        held = answered(lambda: holder.lock.confirm([lease]), "somebody confirms")
        assert held == {KEY}
        leading = replace(lease.record, phase=Phase.LEADING)
        lease = answered(lambda: holder.lock.update(lease, leading), "the record is written")

        def seen() -> bool:
            try:
                snapshot = watch.poll(1.0)
            except BackendUnavailable:
                return False
            return snapshot is not None and snapshot[KEY].leader == lease.record

        wait_until(seen, PATIENCE, "the watch goes on at another member")
    watch.close()
    assert reader.lock.read(KEY).holder == lease.session


def test_quorum_lost_and_regained(three: EtcdCluster, start: Callable[..., Process]) -> None:
    survivor, *others = three.members
    holder = start("n1", three.addresses, timeout="1s")
    follower = start("n2", [survivor.address], timeout="1s")
    holder.lock.open("a", ttl=30.0)
    lease = holder.take(KEY)
    watch = follower.lock.watch([KEY])
    settle(watch, 0.3, PATIENCE)
    for member in others:
        member.process.kill()
    with pytest.raises(BackendUnavailable):
        holder.lock.confirm([lease])
    with pytest.raises(BackendError):
        watch.poll(PATIENCE)  # it is told, although its own member still runs
    for member in others:
        member.process.start()
    assert answered(lambda: holder.lock.confirm([lease]), "quorum is back") == {KEY}
    view = follower.lock.read(KEY)

    def whole() -> bool:
        try:
            return watch.poll(1.0) == {KEY: view}
        except BackendUnavailable:
            return False

    wait_until(whole, PATIENCE, "the watch starts over with a whole snapshot")
    holder.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
    snapshot_where(watch, lambda views: views[KEY].marked, PATIENCE, "released")
    watch.close()


def test_a_member_that_hangs_is_left(three: EtcdCluster, start: Callable[..., Process]) -> None:
    """Reads go on at another member; a write that may have arrived is not sent twice."""
    leader = leader_of(three.members)
    hanging = next(member for member in three.members if member is not leader)
    process = start("n1", [hanging.address, leader.address], timeout="1s")
    process.lock.open("a", ttl=30.0)
    lease = process.take(KEY)
    sent: list[int] = []
    link = process.backend.client.link()
    txn = link.kv.Txn
    link.kv.Txn = lambda *words, **how: (sent.append(1), txn(*words, **how))[1]
    hanging.process.pause()
    try:
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            process.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
        assert len(sent) == 1
        assert process.backend.client.link() is not link
        assert process.lock.confirm([lease]) == {KEY}
        process.lock.keep_alive()
    finally:
        hanging.process.resume()
    # Whatever became of the write: it happened once, or not at all.
    view = process.lock.read(KEY)
    assert view.record is not None
    assert view.record.phase in (Phase.ELECTED, Phase.LEADING)


def test_a_dead_first_endpoint_is_no_failure(
    three: EtcdCluster, start: Callable[..., Process]
) -> None:
    dead, live, _ = three.members
    dead.process.kill()
    answered(lambda: start("n0", [live.address]).lock.read(KEY), "a leader is there")
    process = start("n1", [dead.address, live.address])
    process.lock.open("a", ttl=30.0)
    lease = process.take(KEY)  # a write, too: it certainly did not arrive at the first
    watch = process.lock.watch([KEY])
    snapshot = watch.poll(PATIENCE)
    assert snapshot is not None
    assert snapshot[KEY].holder == lease.session
    watch.close()


def test_a_member_without_a_leader_says_so_at_once(
    three: EtcdCluster, start: Callable[..., Process]
) -> None:
    """It runs, but knows no leader: then nobody has to wait for the time limit."""
    alone, *others = three.members
    process = start("n1", [alone.address], timeout="1s")
    process.lock.read(KEY)
    for member in others:
        member.process.kill()

    def refused() -> str:
        try:
            process.lock.read(KEY)
        except BackendUnavailable as error:
            return str(error)
        return ""

    wait_until(lambda: "no leader" in refused(), PATIENCE, "it says so")


def test_a_session_that_nobody_kept_alive_is_lost(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str
) -> None:
    holder = start("n1", [etcd.address], prefix=unique_name)
    other = start("n2", [etcd.address], prefix=unique_name)
    session = holder.lock.open("a", ttl=0.5)
    lease = holder.take(KEY)
    wait_until(lambda: other.lock.read(KEY).free, PATIENCE, "nobody kept it alive")
    assert not other.lock.read(KEY).marked
    assert holder.lock.confirm([lease]) == frozenset()
    with pytest.raises(LeaseLost):
        holder.lock.keep_alive()
    assert holder.lock.open("a", ttl=2.0, session=session) != session


def test_a_lease_that_is_half_over_is_kept_alive_before_it_confirms(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str
) -> None:
    """And one that is gone then holds nothing, without looking at any lock."""
    process = start("n1", [etcd.address], prefix=unique_name)
    session = process.lock.open("a", ttl=30.0)
    lease = process.take(KEY)
    kept = process.backend.session
    kept._kept_at -= 16.0
    assert process.lock.confirm([lease]) == {KEY}
    assert not kept.due(2.0)
    kept._kept_at -= 16.0
    etcd.call("lease/revoke", {"ID": int(session, 16)})
    assert process.lock.confirm([lease]) == frozenset()
    assert not kept.id
