"""Several real processes over one file: exclusion, kill -9, SIGSTOP, forks, wake-ups."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadertag.errors import LeaseLost
from leadertag.model import Health, LockView, Phase
from leadertag.plan import Plan
from leadertag.testing.contracts.harness import snapshot_where, until
from leadertag_local.client import LocalClient
from leadertag_local.watch import LocalWatch
from tests.unit.local.tools import KEY, PATIENCE, Node, Other, drained, others

PRELUDE = """
import json, os, signal, sys
from dataclasses import replace
from leadertag.errors import LeaderTagError
from leadertag.model import Gate, Health, Lease, Phase, TagChange
from tests.unit.local.tools import KEY, Node

def tell(value):
    print(json.dumps(value), flush=True)

path, name = sys.argv[1:3]
node = Node(path, name)
"""

CONTEND = (
    PRELUDE
    + """
node.lock.open(name, ttl=60)
watch = node.lock.watch([KEY])
witness = path + ".held"
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    while True:
        lease = node.lock.acquire(node.lock.read(KEY), node.record())
        if isinstance(lease, Lease):
            break
        watch.poll(5)
    # Two holders at a time: the second one fails here.
    os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
    with open(path + ".terms", "a") as terms:
        terms.write(f"{lease.term}\\n")
    assert node.lock.confirm([lease]) == {KEY}
    os.unlink(witness)
    node.give(lease)
watch.close()
tell("done")
"""
)

PLANS = """
from leadertag.plan import Plan, write_plan
sys.stdin.readline()
tell(write_plan(node.lock, KEY, Plan(paused=True)).index)
"""

HOLD = (
    PRELUDE
    + """
node.lock.open(name, ttl=float(sys.argv[3]))
node.registry.register(node.instance())
node.registry.report("redis", Health.PASSING)
lease = node.take()
tell([lease.session, lease.term])
for line in sys.stdin:
    try:
        if line.strip() == "publish":
            leading = replace(lease.record, phase=Phase.LEADING)
            gate = Gate("redis", lease.term)
            node.registry.publish(lease, leading, "redis", TagChange(add=("master",)), gate)
        elif line.strip() == "keep alive":
            node.lock.keep_alive()
        elif line.strip() == "release":
            node.give(lease)
        elif line.strip() == "die in a transaction":
            with node.client.store.write() as database:
                database.execute("DELETE FROM locks")
                database.execute("DELETE FROM instances")
                os.kill(os.getpid(), signal.SIGKILL)
        tell("done")
    except LeaderTagError as error:
        tell(type(error).__name__)
"""
)


def test_eight_contenders_never_hold_it_together(tmp_path: Path) -> None:
    path, contenders, rounds = tmp_path / "x.db", 8, 25
    with others(CONTEND, *((path, f"n{n}", rounds) for n in range(contenders))) as started:
        for other in started:  # all at once, and all find no database yet
            other.tell("go")
        assert [other.hear() for other in started] == ["done"] * contenders
        assert [other.ended() for other in started] == [0] * contenders
    terms = [int(line) for line in (tmp_path / "x.db.terms").read_text().split()]
    assert len(terms) == contenders * rounds
    assert terms == sorted(set(terms)), "terms strictly increase in the order of holding"
    view = Node(path).lock.read(KEY)
    assert view.marked
    assert view.record is not None
    assert view.record.term == terms[-1]


def test_the_lock_of_a_killed_holder_is_freed_by_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    node.lock.open("n1", ttl=60)
    with others(HOLD, (path, "n2", 0.5)) as (holder,):
        session, term = holder.hear()
        watch = node.lock.watch([KEY])
        snapshot_where(watch, lambda seen: KEY in seen, PATIENCE, "the first snapshot")
        holder.process.kill()
        holder.ended()
        seen = snapshot_where(watch, lambda views: views[KEY].free, PATIENCE, "the lock is free")
        watch.close()
    assert not seen[KEY].marked
    assert node.take().term > term
    with node.client.store.read() as database:  # and nothing is left of it
        assert node.client.expires(database, session) is None
    assert f"session-{session}" not in node.client.beats.names()


def test_dying_in_a_transaction_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    node.lock.open("n1", ttl=60)
    with others(HOLD, (path, "n2", 60)) as (holder,):
        holder.hear()
        before = node.lock.read(KEY), node.registry.members("redis")
        holder.tell("die in a transaction")
        assert holder.ended() == -signal.SIGKILL
    assert (node.lock.read(KEY), node.registry.members("redis")) == before
    assert node.take("another").term > 0


@pytest.mark.parametrize("taken", [True, False], ids=["succeeded", "not succeeded"])
def test_a_stopped_holder_has_lost_it_when_it_goes_on(tmp_path: Path, taken: bool) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    node.lock.open("n1", ttl=60)
    with others(HOLD, (path, "n2", 0.5)) as (holder,):
        _, term = holder.hear()
        os.kill(holder.process.pid, signal.SIGSTOP)
        until(lambda: node.lock.read(KEY).free, PATIENCE, "the stopped holder's lock is free")
        if taken:
            assert node.take().term > term
        before = node.lock.read(KEY), node.registry.members("redis")
        os.kill(holder.process.pid, signal.SIGCONT)
        for verb in ("publish", "keep alive", "publish", "release"):
            holder.tell(verb)
            assert holder.hear() == "LeaseLost", verb
        assert (node.lock.read(KEY), node.registry.members("redis")) == before


def test_a_session_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with others(HOLD, (path, "n1", 60)) as (first,):
        session, term = first.hear()
        first.process.kill()
        first.ended()
    node = Node(path)
    assert node.lock.open("n1", ttl=60, session=session) == session
    view = node.lock.read(KEY)
    assert view.holder == session
    assert node.lock.adopt(view, node.record()).term == term


def test_somebody_else_cannot_take_up_a_session(tmp_path: Path) -> None:
    node = Node(tmp_path / "x.db")
    session = node.lock.open("n1", ttl=60)
    assert Node(tmp_path / "x.db", "n2").lock.open("n2", ttl=60, session=session) != session


def unpolled(client: LocalClient) -> LocalWatch:
    """A watch of one lock that never looks unless somebody wakes it."""

    def look(database: sqlite3.Connection) -> tuple[dict[str, int], None]:
        rows = database.execute("SELECT key, idx FROM locks")
        return {str(key): int(index) for key, index in rows}, None

    return LocalWatch(client, look, missed=3600.0)


def tell_after_the_next_look(watch: LocalWatch, other: Other, word: str) -> None:
    """Have the other process write when the next poll has looked: only waking shows it then."""
    look = watch._look
    watch._missed_one = lambda connection: False  # type: ignore[method-assign]

    def looked(database: sqlite3.Connection) -> tuple[Mapping[str, Any], float | None]:
        seen = look(database)
        watch._look = look
        other.tell(word)
        return seen

    watch._look = looked


def test_writers_wake_the_watches_of_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    with others(HOLD, (path, "n2", 60)) as (holder,):
        holder.hear()
        watch = unpolled(node.client)
        drained(watch)
        tell_after_the_next_look(watch, holder, "publish")
        assert watch.poll(PATIENCE) is not None
        assert holder.hear() == "done"
        watch.close()


def test_a_plan_wakes_the_watches_of_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    script = PRELUDE + PLANS
    with others(script, (path, "n2")) as (operator,):
        watch = node.lock.watch([KEY])
        assert isinstance(watch, LocalWatch)
        drained(watch)
        tell_after_the_next_look(watch, operator, "pause")
        seen = watch.poll(PATIENCE)
        assert seen == {KEY: LockView(KEY, plan=Plan(paused=True, index=operator.hear()))}
        watch.close()


def test_a_missed_wake_up_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    node.lock.open("n1", ttl=60)
    watch = node.lock.watch([KEY])
    drained(watch)
    for fifo in (tmp_path / "x.db.d" / "watchers").iterdir():
        fifo.unlink()  # as good as a writer that was killed before it could poke
    lease = node.take()
    snapshot_where(watch, lambda views: not views[KEY].free, PATIENCE, "the change")
    assert len(list((tmp_path / "x.db.d" / "watchers").iterdir())) == 1, "it has a new FIFO"
    node.give(lease)
    snapshot_where(watch, lambda views: views[KEY].free, PATIENCE, "the next change")
    watch.close()
    assert list((tmp_path / "x.db.d" / "watchers").iterdir()) == []


def test_the_fifo_of_a_killed_watcher_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    node = Node(path)
    node.lock.open("n1", ttl=60)
    script = PRELUDE + "w = node.lock.watch([KEY]); w.poll(1); tell('polled'); w.poll(3600)"
    with others(script, (path, "n2")) as (watcher,):
        assert watcher.hear() == "polled"
        folder = tmp_path / "x.db.d" / "watchers"
        assert len(list(folder.iterdir())) == 1
        node.take()
        assert len(list(folder.iterdir())) == 1
        watcher.process.kill()
        watcher.ended()
        node.take("another")
        assert list(folder.iterdir()) == []


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    node = Node(tmp_path / "x.db")
    node.lock.open("n1", ttl=60)
    lease = node.take()
    process = node.client.process
    child = os.fork()
    if child == 0:
        try:
            fine = node.lock.confirm([lease]) == {KEY} and node.client.process != process
            node.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
            os._exit(0 if fine else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert node.lock.confirm([lease]) == {KEY}
    with pytest.raises(LeaseLost):  # the child has written with it
        node.give(lease)


def test_kills_at_any_moment_leave_nothing_to_repair(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    script = (
        PRELUDE
        + """
node.lock.open(name, ttl=0.05)
node.registry.register(node.instance())
tell("busy")
while True:
    try:
        lease = node.lock.acquire(node.lock.read(KEY), node.record())
        if isinstance(lease, Lease):
            node.registry.publish(lease, lease.record, "redis", TagChange(add=("master",)),
                                  Gate("redis", lease.term))
            node.registry.remove_gates("redis")
    except LeaderTagError:
        node.lock.open(name, ttl=0.05)
"""
    )
    chance, term = random.Random(7), 0
    node = Node(path)
    for number in range(6):
        with others(script, (path, f"n{number}"), (path, f"m{number}")) as busy:
            for other in busy:
                assert other.hear() == "busy"
            _wait_for_terms(node, term + chance.randrange(3, 30))
            for other in busy:
                other.process.kill()
                other.ended()
        with node.client.store.read() as database:
            assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        until(lambda: node.lock.read(KEY).free, PATIENCE, "free again")
        node.lock.open("n1", ttl=60)
        lease = node.take()
        assert lease.term > term
        term = lease.term
        node.give(lease)


def _wait_for_terms(node: Node, wanted: int) -> None:
    def reached() -> bool:
        record = node.lock.read(KEY).record
        return record is not None and record.term >= wanted

    until(reached, PATIENCE, f"term {wanted}")


def test_the_gate_of_a_killed_process_closes(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    script = (
        PRELUDE
        + """
node.registry.register(node.instance())
node.registry.report("redis", Health.PASSING)
node.registry.tag("redis", TagChange(add=("master",)), gate=Gate("redis", 1), timeout=5)
node.registry.heartbeat()
node.registry.open_gate("redis", Gate("redis", 1))
tell("open")
sys.stdin.readline()
"""
    )
    watching = Node(path, "n1", gate_life="500ms")
    with others(script, (path, "n2")) as (leader,):
        assert leader.hear() == "open"
        assert watching.registry.members("redis")[0].gate == 1
        leader.process.kill()
        leader.ended()
    watch = watching.registry.watch_members("redis")
    seen = snapshot_where(watch, lambda m: not m["n2/redis"].passing, PATIENCE, "closed")
    assert seen["n2/redis"].service_health is Health.PASSING
    watch.close()


def test_all_locks_of_a_process_hang_on_its_session(tmp_path: Path) -> None:
    node = Node(tmp_path / "x.db")
    node.lock.open("n1", ttl=60)
    leases = [node.take(f"key-{n}") for n in range(3)]
    node.lock.end()
    views = [node.lock.read(lease.key) for lease in leases]
    assert [(view.free, view.marked) for view in views] == [(True, False)] * 3
