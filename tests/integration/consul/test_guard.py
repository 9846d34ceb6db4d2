"""The predecessor's lock: taken as Go's api.Lock does, and given back at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from leadertag.errors import ConfigError
from leadertag_consul.guard import LOCK_FLAG, PREDECESSOR
from tests.integration.consul.conftest import Process
from tests.tools.consul import ConsulAgent, ConsulCluster


def pair_of(agent: ConsulAgent, key: str) -> dict[str, Any]:
    (pair,) = agent.get(f"/v1/kv/{key}")
    return dict(pair)


def take_as_predecessor(agent: ConsulAgent, key: str) -> str:
    """What api.Lock sends: a session, then `?acquire` with the flag."""
    body = {"Name": "Consul API Lock", "TTL": "15s"}
    session: str = agent.api("PUT", "/v1/session/create", body)[0]["ID"]
    params = {"acquire": session, "flags": LOCK_FLAG}
    assert agent.api("PUT", f"/v1/kv/{key}", b"", params)[0] is True
    return session


def test_the_flag_is_the_predecessors() -> None:
    assert LOCK_FLAG == 3304740253564472344


def test_it_is_taken_and_freed_without_leaving_a_session_or_a_delay(
    p1: Process, n2: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    sessions = len(consul_servers.sessions())
    key = f"check-q-{unique_name}"
    with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
        assert taken
        held = pair_of(n2, key)
        assert held["Flags"] == LOCK_FLAG
        assert held["Session"]
        p1.lock.keep_alive()
    assert "Session" not in pair_of(n2, key)
    assert len(consul_servers.sessions()) == sessions
    session = take_as_predecessor(n2, key)  # at once: released before it was destroyed
    n2.api("PUT", f"/v1/session/destroy/{session}")


def test_it_is_found_taken(p1: Process, n2: ConsulAgent, unique_name: str) -> None:
    key = f"check-q-{unique_name}"
    session = take_as_predecessor(n2, key)
    before = pair_of(n2, key)
    with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
        assert not taken
    assert pair_of(n2, key) == before
    n2.api("PUT", f"/v1/session/destroy/{session}")


def test_it_waits_for_the_milliseconds_of_one_run(
    p1: Process, n2: ConsulAgent, unique_name: str
) -> None:
    key = f"check-q-{unique_name}"
    session = take_as_predecessor(n2, key)
    release = {"release": session, "flags": LOCK_FLAG}
    timer = threading.Timer(0.2, lambda: n2.api("PUT", f"/v1/kv/{key}", b"", release))
    timer.start()
    with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
        assert taken
    timer.join()
    n2.api("PUT", f"/v1/session/destroy/{session}")


def test_a_lock_delay_is_honoured(p1: Process, n2: ConsulAgent, unique_name: str) -> None:
    """Free by its session's end: refused for 15 s, though no session shows."""
    key = f"check-q-{unique_name}"
    session = take_as_predecessor(n2, key)
    n2.api("PUT", f"/v1/session/destroy/{session}")
    assert "Session" not in pair_of(n2, key)
    with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
        assert not taken


def test_a_foreign_key_is_left_alone(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    key = f"check-q-{unique_name}"
    n1.api("PUT", f"/v1/kv/{key}", b"configuration")
    index = consul_servers.raft_index()
    with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
        assert not taken
    assert consul_servers.wrote_nothing_since(index)


def test_it_is_freed_when_the_block_fails(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    def fail() -> None:
        with p1.lock.guard(PREDECESSOR, "q", unique_name) as taken:
            assert taken
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert "Session" not in pair_of(n1, f"check-q-{unique_name}")


def test_another_compatibility_is_refused(p1: Process) -> None:
    with pytest.raises(ConfigError, match="resec"):
        p1.lock.guard("resec", "q", "s")
