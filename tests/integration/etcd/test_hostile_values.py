"""Values of others under leadertag's prefix, on a real etcd: told, left out, never acted on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from leadertag.errors import BackendError, BackendUnavailable, Conflict, LeaderTagError
from leadertag.model import (
    Gate,
    Health,
    Instance,
    Lease,
    LockView,
    Phase,
    QueryDefinition,
    Record,
    TagChange,
)
from tests.integration.etcd.process import Process
from tests.tools.etcd import EtcdMember

RECORD = Record("n9/redis", "redis", "n9", "10.0.0.9", 6379, Phase.RELEASED, term=7, lease=3.0)


def as_json(**changes: Any) -> bytes:
    return json.dumps({"leadertag": 1, **asdict(RECORD), **changes}).encode()


VALUES: dict[str, bytes] = {
    "empty": b"", "text": b"mine", "null": b"null", "no text": b"\xff\xfe\x00", "list": b"[]",
    "another's object": b'{"leader": "n9", "freed": true}', "deep": b"[" * 100_000,
    "EBCDIC": as_json().decode().encode("cp500"), "bool for a term": as_json(term=True),
    "endless lease": as_json(lease=0.0).replace(b'"lease": 0.0', b'"lease": 1e999'),
    "released, cut": as_json(freed=True)[:-2], "term twice": as_json()[:-1] + b',"term":"8"}',
    "large": b"x" * 1_000_000, "escapes": b"\x1b[2J\r\nleadertag: forged",
}  # fmt: skip


@pytest.fixture
def prefix(unique_name: str) -> str:
    return f"test/{unique_name}"


@pytest.fixture
def process(start: Callable[..., Process], etcd: EtcdMember, prefix: str) -> Process:
    """A process whose prefix no other test has."""
    made = start("n1", [etcd.address], prefix=prefix, timeout="1s")
    made.lock.open("n1", ttl=10.0)
    return made


def put(etcd: EtcdMember, key: str | bytes, value: bytes) -> None:
    """Put any bytes, as somebody else would."""
    raw = key.encode() if isinstance(key, str) else key
    coded = {"key": base64.b64encode(raw).decode(), "value": base64.b64encode(value).decode()}
    etcd.call("kv/put", coded)


def get(etcd: EtcdMember, key: str) -> bytes | None:
    found = etcd.call("kv/range", {"key": base64.b64encode(key.encode()).decode()}).get("kvs")
    return base64.b64decode(found[0].get("value", "")) if found else None


def one_line(error: LeaderTagError) -> str:
    text = str(error)
    assert text.isprintable(), text
    return text


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_foreign_value_in_a_lock_is_told_and_left(
    etcd: EtcdMember, process: Process, prefix: str, name: str
) -> None:
    """It is neither free for us, nor a mark, nor anybody's leadership."""
    key = f"{prefix}/locks/record/redis/q"
    put(etcd, key, VALUES[name])
    view = process.lock.read("redis/q")
    assert (view.foreign, view.record, view.marked, view.leader) == (True, None, False, None)
    with pytest.raises(Conflict, match="not leadertag's") as caught:
        process.lock.acquire(view, process.record())
    one_line(caught.value)
    blind = LockView("redis/q", view.index)  # as if it had not been decoded
    with pytest.raises(BackendError):
        _must_not_hold(process.lock.acquire(replace(blind, index=0), process.record()))
    assert get(etcd, key) == VALUES[name]
    watch = process.lock.watch(["redis/q"])
    snapshot = watch.poll(5.0)
    watch.close()
    assert snapshot is not None
    assert snapshot["redis/q"] == view


def _must_not_hold(found: Lease | LockView) -> None:
    assert not isinstance(found, Lease), found


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_foreign_value_under_a_held_lock_ends_no_hold_unseen(
    etcd: EtcdMember, process: Process, prefix: str, name: str
) -> None:
    """Somebody writes over the record: whoever holds the lock is told at the next write."""
    lease = process.take("redis/q")
    put(etcd, f"{prefix}/locks/record/redis/q", VALUES[name])
    view = process.lock.read("redis/q")
    assert view.holder == lease.session
    assert not view.free
    assert view.foreign
    with pytest.raises(BackendError) as caught:
        process.lock.update(lease, lease.record)
    one_line(caught.value)
    with pytest.raises(BackendError):
        process.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
    assert get(etcd, f"{prefix}/locks/record/redis/q") == VALUES[name]


@pytest.mark.parametrize("value", [b"", b"somebody", b"0", b"\xff"], ids=ascii)
def test_a_foreign_holder_is_a_holder(
    etcd: EtcdMember, process: Process, prefix: str, value: bytes
) -> None:
    put(etcd, f"{prefix}/locks/holder/redis/q", value)
    view = process.lock.read("redis/q")
    assert not view.free
    _must_not_hold(process.lock.acquire(LockView("redis/q"), process.record()))
    with pytest.raises(BackendError):
        process.lock.discard(view)
    assert get(etcd, f"{prefix}/locks/holder/redis/q") == value


def test_a_release_that_nobody_made_is_no_mark(
    etcd: EtcdMember, process: Process, prefix: str
) -> None:
    """The phase alone does not count: a successor still waits out the lease."""
    put(etcd, f"{prefix}/locks/record/redis/q", as_json())
    view = process.lock.read("redis/q")
    assert view.free
    assert not view.marked


def members(process: Process) -> set[str]:
    return {one.member for one in process.registry.members("redis")}


def broken(process: Process, **changes: Any) -> bytes:
    """The own registration as it stands, with some fields of another kind."""
    raw = get_registration(process)
    return json.dumps({**json.loads(raw), **changes}).encode()


def get_registration(process: Process) -> bytes:
    key = process.backend.names.instance("redis", "n1", "redis")
    from leadertag_etcd.client import Span

    _, ((entry,),) = process.backend.client.read(Span.key(key))
    return entry.value


WRONG: dict[str, dict[str, Any]] = {
    "tags as text": {"tags": "master"}, "tags with numbers": {"tags": [1]},
    "port as bool": {"port": True}, "port as text": {"port": "6379"}, "meta": {"meta": {"a": [1]}},
    "gate without an owner": {"gates": [{"id": "x", "election": "redis", "term": 1,
                                         "opened": True, "shut": False, "owner": []}]},
    "gate that is always open": {"gates": [{"id": "x", "election": "redis", "term": True,
                                            "opened": "yes", "shut": 0, "owner": "p"}]},
    "health": {"health": "splendid"}, "huge": {"port": 10**30}, "id": {"id": None},
}  # fmt: skip


@pytest.mark.parametrize("name", [*sorted(VALUES), *sorted(WRONG)])
def test_what_is_no_registration_is_left_out(
    etcd: EtcdMember, process: Process, prefix: str, name: str
) -> None:
    """Of lists, of watches, and of what the own node has; the others are still found."""
    process.register("redis", tags=("sensu",))
    value = VALUES[name] if name in VALUES else broken(process, **WRONG[name])
    put(etcd, f"{prefix}/instances/redis/n2/redis", value)
    put(etcd, f"{prefix}/instances/redis/n1/other", value)
    put(etcd, f"{prefix}/instances/redis/n1/a/b/c", value)
    put(etcd, f"{prefix}/instances/redis/n1/".encode() + b"\xff\xfe", value)
    put(etcd, f"{prefix}/beats/\x1b[31m", value)
    assert members(process) == {"n1/redis"}
    assert process.registry.local("redis").id == "redis"
    watch = process.registry.watch_members("redis")
    snapshot = watch.poll(5.0)
    watch.close()
    assert snapshot is not None
    assert set(snapshot) == {"n1/redis"}
    process.registry.tag("redis", TagChange(add=("master",)), timeout=2)
    assert process.registry.local("redis").tags == ("sensu", "master")


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_foreign_value_in_the_own_place_is_told(
    etcd: EtcdMember, process: Process, prefix: str, name: str
) -> None:
    key = f"{prefix}/instances/redis/n1/redis"
    put(etcd, key, VALUES[name])
    own = Instance("redis", "n1", "redis", "127.0.0.1", 6379)
    with pytest.raises(Conflict, match="not leadertag's") as caught:
        process.registry.register(own)
    assert key in one_line(caught.value)
    for verb in (
        lambda: process.registry.report("redis", Health.PASSING),
        lambda: process.registry.tag("redis", TagChange(add=("master",)), timeout=1),
        lambda: process.registry.open_gate("redis", Gate("redis", 7)),
        lambda: process.registry.local("redis"),
    ):
        with pytest.raises(BackendError) as caught:  # type: ignore[assignment]
            verb()
        one_line(caught.value)
    assert get(etcd, key) == VALUES[name]


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_foreign_query_is_told_and_left(
    etcd: EtcdMember, process: Process, prefix: str, name: str
) -> None:
    put(etcd, f"{prefix}/queries/q", VALUES[name])
    put(etcd, f"{prefix}/queries/".encode() + b"\xff", VALUES[name])
    with pytest.raises(Conflict, match="not leadertag's") as caught:
        process.query.ensure(QueryDefinition("q", "redis", ("master",)))
    one_line(caught.value)
    with pytest.raises(BackendError):
        process.query.resolve("q")
    assert process.query.list() == ()
    assert get(etcd, f"{prefix}/queries/q") == VALUES[name]


def test_values_that_change_all_the_time_end_no_watch(
    etcd: EtcdMember, process: Process, prefix: str
) -> None:
    """A watch goes on through any number of foreign values, and tells the next one of ours."""
    watch = process.lock.watch(["redis/q"])
    assert watch.poll(5.0) is not None
    for value in VALUES.values():
        put(etcd, f"{prefix}/locks/record/redis/q", value)
        put(etcd, f"{prefix}/locks/record/".encode() + b"\xff\x00", value)
    put(etcd, f"{prefix}/locks/record/redis/q", as_json())
    seen: LockView | None = None
    while seen is None or seen.record is None:
        snapshot = watch.poll(5.0)
        assert snapshot is not None, "nothing more is told"
        seen = snapshot["redis/q"]
    watch.close()
    assert seen.record == RECORD or replace(seen.record, phase=RECORD.phase) == RECORD


def test_no_value_is_worth_a_second_look(process: Process) -> None:
    """What etcd itself refuses is one line as well: a record beyond its limit."""
    lease = process.take("redis/q")
    huge = replace(lease.record, reason="x" * 2_000_000)
    with pytest.raises((BackendError, BackendUnavailable)) as caught:
        process.lock.update(lease, huge)
    one_line(caught.value)
