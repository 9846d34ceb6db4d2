"""The one stream: compaction, many watches, and what it costs."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadertag.model import Gate, Phase, TagChange
from leadertag.testing.contracts.harness import settle, snapshot_where
from leadertag_etcd import watch as watch_module
from leadertag_etcd.client import Span, put
from leadertag_etcd.failures import Failure
from leadertag_etcd.stream import Anew, Broken, Subscription
from tests.integration.etcd.process import PATIENCE, Process
from tests.tools.etcd import CLIENT_PORT, EtcdCluster, EtcdMember
from tests.tools.processes import wait_until


def compact(etcd: EtcdMember) -> None:
    revision = etcd.call("kv/range", {"key": "AA=="})["header"]["revision"]
    etcd.call("kv/compaction", {"revision": revision})


def connections(etcd: EtcdMember) -> int:
    """How many connections this process has to that member, as the kernel counts them."""
    packed = "".join(f"{int(part):02X}" for part in reversed(etcd.ip.split(".")))
    own = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            own.add(os.readlink(f"/proc/self/fd/{number}"))
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(
        words[2].endswith(f"{packed}:{CLIENT_PORT:04X}")
        and words[3] == "01"
        and f"socket:[{words[9]}]" in own
        for words in lines
    )


def streams() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "etcd watch"}


def test_a_connection_that_is_left_is_closed(
    etcd_factory: Callable[..., EtcdCluster], start: Callable[..., Process]
) -> None:
    """When the last request on it is over, and its watches go on over the new one."""
    (etcd,) = etcd_factory().members
    process = start("n1", [etcd.address])
    process.lock.open("a", ttl=30.0)
    watch = process.lock.watch(["redis/master"])
    settle(watch, 0.1, PATIENCE)
    client = process.backend.client
    left = client.link()
    client._leave(left, Failure("DEADLINE_EXCEEDED", ""))
    process.take("redis/master")
    snapshot_where(watch, lambda views: not views["redis/master"].free, PATIENCE, "it goes on")
    assert client.link() is not left
    left.users += 1
    client._give_back(left)  # as the request that found out does
    wait_until(lambda: connections(etcd) == 1, PATIENCE, "one connection")
    watch.close()


def test_compaction_is_told(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str
) -> None:
    process = start("n1", [etcd.address], prefix=unique_name)
    client = process.backend.client
    for value in (b"1", b"2"):
        client.commit([], [put(f"{unique_name}/x/y", value)])
    compact(etcd)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    subscription = process.backend.stream.subscribe(Span.under(f"{unique_name}/x/"), 1, inbox)
    told, item = inbox.get(timeout=PATIENCE)
    assert told is subscription
    assert isinstance(item, Broken)
    assert isinstance(item.error, Anew)


def test_a_watch_reads_anew_after_a_compaction(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str
) -> None:
    process = start("n1", [etcd.address], prefix=unique_name)
    process.lock.open("a", ttl=30.0)
    client, read = process.backend.client, process.backend.client.read
    outdated: list[bool] = []

    def read_late(*spans: Span, **how: Any) -> Any:
        revision, found = read(*spans, **how)
        if outdated:
            return revision, found
        # As if much had happened between the reading and the subscription.
        outdated.append(True)
        process.take("redis/master")
        compact(etcd)
        return 1, found

    client.read = read_late  # type: ignore[method-assign]
    watch = process.lock.watch(["redis/master"])
    snapshot_where(watch, lambda views: not views["redis/master"].free, PATIENCE, "read anew")
    assert outdated
    watch.close()


def test_a_stream_that_has_fallen_silent_is_noticed(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    process = start("n1", [etcd.address], prefix=unique_name)
    process.lock.open("a", ttl=30.0)
    watch = process.lock.watch(["redis/master"])
    settle(watch, 0.1, PATIENCE)
    monkeypatch.setattr(watch_module, "LOOK_AGAIN", 0.2)
    monkeypatch.setattr(Subscription, "tell", lambda *_: None)
    process.take("redis/master")
    snapshot_where(watch, lambda views: not views["redis/master"].free, PATIENCE, "looked again")
    watch.close()


def test_the_cost_of_a_process_is_constant(
    etcd_factory: Callable[..., EtcdCluster], start: Callable[..., Process], unique_name: str
) -> None:
    """One connection, one stream, three leases; and in the steady state no write."""
    (etcd,) = etcd_factory().members
    process = start("n1", [etcd.address])
    before = streams()
    services = [f"{unique_name}-{number}" for number in range(20)]
    for service in services:
        process.register(service)
    process.lock.open("a", ttl=30.0)
    leases = []
    for service in services:
        lease = process.take(f"{service}/master")
        gate = Gate(service, lease.term)
        change = TagChange(add=("master",))
        record = replace(lease.record, phase=Phase.LEADING)
        leases.append(process.registry.publish(lease, record, service, change, gate))
        process.registry.open_gate(service, gate)
    watches = [process.lock.watch([lease.key for lease in leases])]
    watches += process.registry.watch([(service, service) for service in services])
    watches += [process.registry.watch_members(service) for service in services[:3]]
    for watch in watches:
        settle(watch, 0.1, PATIENCE)
    new = streams() - before
    assert connections(etcd) == 1
    assert len(new) == 1
    assert len(etcd.call("lease/leases", {})["leases"]) == 3

    entries = etcd.raft_index()
    for _ in range(5):
        process.lock.keep_alive()
        assert len(process.lock.confirm(leases)) == len(services)
        process.registry.heartbeat()
        for service in services:
            process.register(service)
    assert etcd.raft_index() == entries
    assert process.registry.members(services[0])[0].passing
    for watch in watches:
        watch.close()
    wait_until(lambda: not new & streams(), PATIENCE, "the stream ends with its watches")


def test_reports_that_say_nothing_new_ask_for_nothing(
    etcd: EtcdMember, start: Callable[..., Process], unique_name: str
) -> None:
    """Its reports cost no request at all until the lease's life is a third over."""
    process = start("n1", [etcd.address], prefix=unique_name)
    process.register(unique_name)
    sent: list[int] = []
    call = process.backend.client.call

    def counted(*words: Any, **how: Any) -> Any:
        sent.append(1)
        return call(*words, **how)

    process.backend.client.call = counted  # type: ignore[method-assign]
    for _ in range(50):
        process.register(unique_name)
    assert not sent
