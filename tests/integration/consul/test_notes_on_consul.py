"""What notes cost and risk on a real Consul beyond the contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from leadertag.errors import Conflict, PermissionDenied
from leadertag.model import Lease, LockView
from leadertag.plan import CHANGES, PLAN, Note, Plan, write_plan
from leadertag_consul.kv import LONGEST_BODY, operation
from leadertag_consul.transport import RawAnswer, Transport
from tests.integration.consul.conftest import Process, process_of
from tests.tools.consul import ConsulAgent, ConsulCluster

PAUSE = Plan(paused=True, by="ops")


def test_notes_are_keys_below_their_lock_without_a_session(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    key = f"{unique_name}/q"
    lease = p1.lock.acquire(p1.lock.read(key), p1.record())
    assert isinstance(lease, Lease)
    for name in (PLAN, CHANGES):
        note = p1.lock.write_note(key, name, Note(b"x"))
        (pair,) = n1.get(f"/v1/kv/leadertag/locks/{key}/{name}")
        assert "Session" not in pair
        assert (pair["LockIndex"], pair["ModifyIndex"]) == (0, note.index)


def sent_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the method and target of every request are added."""
    sent: list[str] = []
    request = Transport.request

    def counted(self: Transport, method: str, target: str, *rest: Any) -> RawAnswer:
        sent.append(f"{method} {target}")
        return request(self, method, target, *rest)

    monkeypatch.setattr(Transport, "request", counted)
    return sent


def test_a_lock_with_its_plan_is_one_request_and_a_write_reads_the_lock_alone(
    p1: Process, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = p1.lock.acquire(p1.lock.read(unique_name), p1.record())
    assert isinstance(lease, Lease)
    plan = write_plan(p1.lock, unique_name, PAUSE)
    sent = sent_by(monkeypatch)
    assert p1.lock.read(unique_name).plan == plan
    path = f"/v1/kv/leadertag/locks/{unique_name}"
    assert sent == [f"GET {path}?recurse=&consistent="]
    sent.clear()
    lease = p1.lock.update(lease, lease.record)
    p1.lock.release(lease, lease.record)
    assert sent == [f"GET {path}?consistent=", "PUT /v1/txn"] * 2


def test_the_largest_note_is_the_largest_that_consul_takes(p1: Process, unique_name: str) -> None:
    """Were the limit ours alone, or higher than Consul's, one of the two would not hold."""
    key = f"leadertag/locks/{unique_name}/{PLAN}"
    size = LONGEST_BODY // 4 * 3
    while _body(key, size) > LONGEST_BODY:
        size -= 1
    note = p1.lock.write_note(unique_name, PLAN, Note(b"x" * size))
    assert p1.lock.read_note(unique_name, PLAN) == note
    p1.lock.write_note(unique_name, PLAN, Note(b"", note.index))
    with pytest.raises(Conflict, match=f"{key}: .* too much"):
        p1.lock.write_note(unique_name, PLAN, Note(b"x" * (size + 3)))
    assert p1.lock.read_note(unique_name, PLAN) == Note()


def _body(key: str, size: int) -> int:
    return len(json.dumps([operation("cas", key, value=b"x" * size, Index=0)]))


def test_without_rights_a_plan_is_no_missing_plan(
    make_cluster: Callable[..., ConsulCluster],
) -> None:
    """Consul answers a list with what may be read only: as if there were no lock, no plan."""
    cluster = make_cluster(agents=1, acl=True)
    agent = cluster.agent("n1")
    rules = 'key_prefix "leadertag/" { policy = "%s" }\nsession "n1" { policy = "write" }'
    writer = process_of(agent, token=cluster.create_token(rules % "write"), node="n1")
    plan = write_plan(writer.lock, "redis/q", PAUSE)
    reader = process_of(agent, token=cluster.create_token(rules % "read"), node="n1")
    nobody = process_of(agent, token=cluster.create_token(rules % "deny"), node="n1")
    assert reader.lock.read("redis/q") == LockView("redis/q", plan=plan)
    verbs: list[Callable[[], object]] = [
        lambda: write_plan(reader.lock, "redis/q", Plan(index=plan.index)),
        lambda: reader.lock.write_note("redis/q", CHANGES, Note(b"x")),
        lambda: nobody.lock.read("redis/q"),
        lambda: nobody.lock.read_note("redis/q", PLAN),
        lambda: nobody.lock.write_note("redis/q", PLAN, Note(b"x")),
    ]
    for verb in verbs:
        with pytest.raises(PermissionDenied, match='key_prefix "leadertag/"'):
            verb()
    assert writer.lock.read("redis/q").plan == plan
    for process in (writer, reader, nobody):
        process.lock.end()
        process.lock.close()
