"""The redis hook against real servers."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.settings import HookSettings
from leadertag.hooks.outcome import Outcome
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent as Event
from leadertag.hookspecs import Probe
from leadertag.model import Health, Instance
from tests.tools.processes import wait_until
from tests.unit.hooks.helpers import LONG, change, limits

redis = pytest.importorskip("redis")

Factory = Callable[..., Any]
PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(1)
    yield made
    made.close()


def instance(server: Any) -> Instance:
    return Instance(server.ip, f"node-{server.ip}", "redis", server.ip, server.port)


class Member:
    """A server with its redis hook, run as the daemon would run it."""

    def __init__(self, server: Any, pool: WorkerPool, **options: Any) -> None:
        self.server = server
        self.instance = instance(server)
        settings = HookSettings(
            "redis", "f: hooks[0]", None, limits(5.0), {"url": server.url, **options}
        )
        self.runner = HookRunner("redis", [settings], pool)

    def run(self, event: Event, leader: Member | None = None, timeout: float = 0.0) -> Outcome:
        leads = leader.instance if leader else None
        return self.runner.run(change(event, instance=self.instance, leader=leads, timeout=timeout))


@pytest.fixture
def make_member(redis_factory: Factory, pool: WorkerPool) -> Callable[..., Member]:
    def make(server_options: dict[str, str] | None = None, **options: Any) -> Member:
        return Member(redis_factory(**(server_options or {})), pool, **options)

    return make


MakeMember = Callable[..., Member]


# -- role changes ------------------------------------------------------------------------


def test_a_failover_among_three(make_member: MakeMember) -> None:
    a, b, c = make_member(), make_member(), make_member()
    for follower in (b, c):
        assert follower.run(Event.FOLLOW, leader=a).ok
        wait_until(follower.server.master_link_up, LONG, "the link")
    a.server.set("key", "1")
    wait_until(lambda: b.server.get("key") == "1", LONG, "the key")

    assert a.run(Event.DEMOTE).ok
    assert b.run(Event.PROMOTE).ok
    assert b.server.role() == "master"
    for follower in (a, c):
        assert follower.run(Event.FOLLOW, leader=b).ok
        wait_until(follower.server.master_link_up, LONG, "the link")
        assert follower.server.info()["master_host"] == b.server.ip
    b.server.set("key", "2")
    wait_until(lambda: a.server.get("key") == c.server.get("key") == "2", LONG, "the key")
    # The old leader has caught up without a full copy of the data.
    assert b.server.info("stats")["sync_partial_ok"] >= 1
    assert b.server.info("stats")["sync_full"] == 0


def test_after_demote_no_client_writes_any_more(make_member: MakeMember) -> None:
    member = make_member()
    with member.server.client as client:
        connection = client.connection_pool.get_connection()
        assert _ask(connection, "SET", "key", "1") == "OK"
        assert member.run(Event.DEMOTE).ok
        with pytest.raises(redis.ConnectionError):
            _ask(connection, "SET", "key", "2")
    with pytest.raises(redis.ReadOnlyError):
        member.server.set("key", "3")
    assert member.server.get("key") == "1"
    assert member.server.role() == "slave"
    assert member.run(Event.DEMOTE).ok


def _ask(connection: Any, *words: str) -> Any:
    connection.send_command(*words)
    return connection.read_response()


def test_demote_makes_a_writable_replica_read_only(make_member: MakeMember) -> None:
    member = make_member({"replica_read_only": "no"})
    assert member.run(Event.DEMOTE).ok
    with pytest.raises(redis.ReadOnlyError):
        member.server.set("key", "1")


def test_a_leader_is_verified_as_long_as_it_is_a_master(make_member: MakeMember) -> None:
    member = make_member()
    assert member.run(Event.PROMOTE).ok
    assert member.run(Event.VERIFY).ok
    assert member.server.role() == "master"  # asking has changed nothing
    assert member.run(Event.DEMOTE).ok
    assert "role is 'slave' and not 'master'" in member.run(Event.VERIFY).message


def test_a_server_that_came_back_as_no_leader_is_not_verified(make_member: MakeMember) -> None:
    member = make_member({"replicaof": "127.0.0.1 1"})  # in its file: its role at each start
    assert member.run(Event.PROMOTE).ok
    assert member.run(Event.VERIFY).ok
    member.server.restart()
    outcome = member.run(Event.VERIFY)
    assert not outcome.ok
    assert f"verify failed: {member.server.ip}:6379: role is 'slave'" in outcome.message


def test_a_server_that_is_gone_or_silent_is_not_verified(make_member: MakeMember) -> None:
    member = make_member()
    member.server.pause()
    assert "Timeout" in member.run(Event.VERIFY, timeout=1.0).message
    member.server.resume()
    member.server.kill()
    assert "refused" in member.run(Event.VERIFY).message


def test_a_server_that_is_gone_counts_as_demoted(make_member: MakeMember) -> None:
    member = make_member()
    member.server.kill()
    assert member.run(Event.DEMOTE).ok
    outcome = member.run(Event.PROMOTE)
    assert not outcome.ok
    assert "refused" in outcome.message


def test_a_server_that_does_not_answer_does_not_count_as_demoted(make_member: MakeMember) -> None:
    member = make_member()
    member.server.pause()
    outcome = member.run(Event.DEMOTE, timeout=1.0)
    assert not outcome.ok
    assert f"{member.server.ip}:6379: Timeout" in outcome.message
    member.server.resume()
    assert member.run(Event.DEMOTE).ok


def test_follow_leaves_alone_what_follows_already(make_member: MakeMember) -> None:
    a, b = make_member(), make_member()
    assert b.run(Event.FOLLOW, leader=a).ok
    wait_until(b.server.master_link_up, LONG, "the link")
    before = b.server.info("commandstats")["cmdstat_replicaof"]["calls"]
    assert b.run(Event.FOLLOW, leader=a).ok
    assert b.server.info("commandstats")["cmdstat_replicaof"]["calls"] == before


def test_follow_goes_to_another_port_where_one_is_set(make_member: MakeMember) -> None:
    a, b = make_member(), make_member(leader_port=6399)
    assert b.run(Event.FOLLOW, leader=a).ok
    assert b.server.info()["master_port"] == 6399


def test_nobody_follows_itself(make_member: MakeMember) -> None:
    member = make_member()
    assert "cannot follow" in member.run(Event.FOLLOW, leader=member).message
    assert member.server.role() == "master"


def test_a_full_copy_under_way_is_a_veto(make_member: MakeMember) -> None:
    # The leader pauses after each key of the copy (microseconds), so that it stays under way.
    a, b = make_member({"rdb_key_save_delay": "30000000"}), make_member()
    for number in range(10):
        a.server.set(f"key{number}", "x" * 100_000)
    daring = Member(b.server, b.runner._pool, refuse_while_syncing=False)
    assert b.run(Event.BEFORE_PROMOTE).ok
    assert b.run(Event.FOLLOW, leader=a).ok

    def syncing() -> bool:
        return bool(b.server.info()["master_sync_in_progress"])

    wait_until(syncing, LONG, "the copy begins")
    assert "full copy" in b.run(Event.BEFORE_PROMOTE).message
    assert daring.run(Event.BEFORE_PROMOTE).ok


# -- rank --------------------------------------------------------------------------------


def test_the_rank_is_the_offset(make_member: MakeMember) -> None:
    a, b = make_member(), make_member()
    assert a.run(Event.RANK).rank == 1
    assert b.run(Event.FOLLOW, leader=a).ok
    wait_until(b.server.master_link_up, LONG, "the link")
    a.server.set("key", "x" * 1000)
    wait_until(lambda: b.server.get("key") is not None, LONG, "the key")
    a.server.kill()
    rank = b.run(Event.RANK).rank
    assert rank == b.server.info()["slave_repl_offset"] + 1
    assert rank > 1000
    assert a.run(Event.RANK).rank is None
    assert not a.run(Event.RANK).ok


def test_priority_0_never_leads(make_member: MakeMember) -> None:
    assert make_member(priority=0).run(Event.RANK).rank == 0


# -- logging in --------------------------------------------------------------------------


def test_logging_in_leaves_no_trace(
    make_member: MakeMember, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    server = {"requirepass": PASSWORD}
    with pytest.MonkeyPatch.context() as patch:
        # The fixture's own client has no password: an open port is ready enough here.
        patch.setattr("tests.tools.redis.RedisServer.answers", _open)
        member = make_member(server, password_file=str(secret))
    in_url = Member(member.server, member.runner._pool, url=_with_password(member.server.url))
    wrong = Member(member.server, member.runner._pool, url=_with_password(member.server.url, "no"))
    for one in (member, in_url):
        assert one.run(Event.PROMOTE).ok
        probe = one.runner.open_probe(one.instance)
        assert probe
        assert probe.poll(LONG) is Health.PASSING
        probe.close()
    outcome = wrong.run(Event.PROMOTE)
    assert "invalid username-password pair" in outcome.message
    secret.write_text("changed-by-mistake")
    assert not member.run(Event.DEMOTE).ok
    assert PASSWORD not in caplog.text
    assert "changed-by-mistake" not in caplog.text + outcome.message


def _open(server: Any) -> bool:
    with socket.create_connection((server.ip, server.port), 1):
        return True


def _with_password(url: str, more: str = "") -> str:
    return url.replace("redis://", f"redis://:{PASSWORD}{more}@")


# -- the probe ---------------------------------------------------------------------------


@pytest.fixture
def open_probe(make_member: MakeMember) -> Iterator[Callable[..., tuple[Any, Probe]]]:
    opened: list[Probe] = []

    def make(server: dict[str, str] | None = None, **options: Any) -> tuple[Any, Probe]:
        member = make_member(server, **options)
        probe = member.runner.open_probe(member.instance)
        assert probe
        opened.append(probe)
        assert probe.poll(LONG) is Health.PASSING
        return member.server, probe

    yield make
    for probe in opened:
        probe.close()


OpenProbe = Callable[..., tuple[Any, Probe]]
NEVER = "1h"  # an interval that never passes: what is seen is seen for another reason


def test_a_killed_server_is_critical_at_once(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval=NEVER)
    assert probe.poll(0.05) is None
    server.kill()
    assert probe.poll(LONG) is Health.CRITICAL


def test_a_stopped_server_still_accepts_connections_and_is_critical(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="50ms", ping_timeout="200ms")
    server.pause()
    assert probe.poll(LONG) is Health.CRITICAL
    assert probe.poll(LONG) is Health.CRITICAL
    server.resume()
    wait_until(lambda: probe.poll(LONG) is Health.PASSING, LONG, "it answers again")


def test_a_broken_connection_is_tried_once_more(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval=NEVER)
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert probe.poll(LONG) is Health.PASSING


def test_a_server_that_was_replaced_in_a_blink_was_gone(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="50ms")
    server.restart()
    assert probe.poll(LONG) is Health.CRITICAL
    assert probe.poll(LONG) is Health.PASSING


def test_a_restart_is_told_even_where_nothing_is_asked_meanwhile(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval=NEVER)
    server.restart()  # the broken connection says so; the new one is to another process
    assert probe.poll(LONG) is Health.CRITICAL


def test_a_connection_that_breaks_without_a_restart_is_no_restart(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="50ms")
    for _ in range(3):
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert probe.poll(LONG) is Health.PASSING


def test_a_server_that_comes_back_is_passing_again(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="50ms")
    server.kill()
    assert probe.poll(LONG) is Health.CRITICAL
    assert probe.poll(LONG) is Health.CRITICAL
    server.start()
    wait_until(lambda: probe.poll(LONG) is Health.PASSING, LONG, "it is back")


def test_a_replica_without_its_master_may_still_succeed(open_probe: OpenProbe) -> None:
    server, probe = open_probe({"replica_serve_stale_data": "no"}, interval="50ms")
    server.command("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(redis.ResponseError):
        server.get("key")
    assert probe.poll(LONG) is Health.PASSING


def test_an_answer_that_refuses_is_a_warning(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="50ms")
    server.command("ACL", "SETUSER", "default", "-ping")
    wait_until(lambda: probe.poll(LONG) is Health.WARNING, LONG, "the refusal")


def test_close_wakes_a_poll(open_probe: OpenProbe) -> None:
    _, probe = open_probe(interval=NEVER)
    seen: list[Health | None] = []
    polling = threading.Thread(target=lambda: seen.append(probe.poll(3600)))
    polling.start()
    probe.close()
    polling.join(LONG)
    assert seen == [None]
    assert probe.poll(1) is None
    probe.close()


def test_close_wakes_a_poll_that_waits_for_an_answer(open_probe: OpenProbe) -> None:
    server, probe = open_probe(interval="10ms", ping_timeout="1h")
    server.pause()
    polling = threading.Thread(target=lambda: probe.poll(3600))
    polling.start()
    polling.join(0.2)  # by then it has most likely asked; either way it must end
    probe.close()
    polling.join(LONG)
    assert not polling.is_alive()
