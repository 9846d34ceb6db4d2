"""An agent that hangs, restarts, is gone, or answers nonsense."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable
from leadertag.model import Lease, TagChange
from leadertag.providers import BackendContext
from leadertag_consul import ConsulLock
from tests.integration.consul.conftest import Process, register
from tests.tools.consul import ConsulCluster
from tests.tools.processes import wait_until


def test_an_agent_that_hangs_is_unavailable_in_time(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """Stopped, it still accepts connections: only a time-out tells."""
    agent = make_cluster(agents=1).agent("n1")
    process = start(agent, timeout="500ms")
    register(agent, "redis")
    lease = process.lock.acquire(process.lock.read("k"), process.record())
    assert isinstance(lease, Lease)
    watch = process.lock.watch(["k"])
    assert watch.poll(5)
    agent.pause()
    began = time.monotonic()
    for verb in (
        lambda: process.lock.confirm([lease]),
        lambda: process.registry.local("redis"),
        process.query.list,
        process.lock.keep_alive,
    ):
        with pytest.raises(BackendUnavailable, match="in time"):
            verb()
    with pytest.raises(BackendUnavailable):
        watch.poll(0.1)
    assert time.monotonic() - began < 60  # it ended at all
    agent.resume()
    wait_until(lambda: _holds(process, lease), 15, "confirmed again")
    assert watch.poll(5) is not None, "after an error the next snapshot is whole"
    watch.close()


def _holds(process: Process, lease: Lease) -> bool:
    try:
        return bool(process.lock.confirm([lease]))
    except BackendUnavailable:
        return False


def test_a_server_that_is_gone(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """The agent says 200 to a registration although nobody can read it: not published."""
    cluster = make_cluster(agents=1)
    agent = cluster.agent("n1")
    process = start(agent, timeout="1s")
    register(agent, "redis")
    lease = process.lock.acquire(process.lock.read("k"), process.record())
    assert isinstance(lease, Lease)
    cluster.server.kill()
    with pytest.raises(BackendUnavailable):
        process.lock.confirm([lease])
    with pytest.raises(BackendUnavailable):
        process.registry.tag("redis", TagChange(add=("master",)), timeout=1)
    assert agent.get("/v1/agent/service/redis")["Tags"] == ["master"]
    cluster.server.start()
    wait_until(lambda: _holds(process, lease), 30, "still held after the server's restart")
    process.registry.tag("redis", TagChange(add=("master",)), timeout=20)


def test_an_agent_restart_breaks_no_write(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """Connections kept from before are found closed before a request is lost on them."""
    agent = make_cluster(agents=1).agent("n1")
    process = start(agent)
    lease = process.lock.acquire(process.lock.read("k"), process.record())
    assert isinstance(lease, Lease)
    agent.restart()
    process.lock.keep_alive()  # a PUT first: it is never sent twice, so it must not be lost
    lease = process.lock.update(lease, lease.record)
    assert process.lock.confirm([lease]) == {"k"}


class FakeAgent:
    """Answers each connection with the same bytes; counts the requests."""

    def __init__(self, answer: bytes) -> None:
        self.requests = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    self.requests += 1
                    connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def fake(answer: bytes) -> Iterator[tuple[FakeAgent, ConsulLock]]:
    agent = FakeAgent(answer)
    settings = Table({"address": agent.address, "timeout": "2s", "token": "s3cr3t-t0ken"}, "test")
    try:
        yield agent, ConsulLock.create(BackendContext(settings, {}))
    finally:
        agent.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n[{",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 17\r\n\r\nNo cluster leader",
        b"HTTP/1.1 429 Too Many\r\nConnection: close\r\nContent-Length: 4\r\n\r\nslow",
        b"HTTP/1.1 503 Oops\r\nConnection: close\r\nContent-Length: 4\r\n\r\n\xff\xfe\nx",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"",
    ],
    ids=["cut", "cut chunk", "no JSON", "no leader", "limited", "not utf-8", "no HTTP", "closed"],
)
def test_nonsense_is_unavailable_on_one_line(answer: bytes) -> None:
    with fake(answer) as (agent, lock):
        for verb in (lambda: lock.read("k"), lambda: lock.open("a", ttl=10.0)):
            with pytest.raises(BackendUnavailable) as caught:
                verb()
            message = str(caught.value)
            assert "\n" not in message
            assert "s3cr3t" not in message
            assert agent.address in message
        assert agent.requests == 2  # nothing that was once sent is ever repeated


def test_nobody_listens() -> None:
    settings = Table({"address": "127.0.0.1:1"}, "test")
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1.*refused"):
        ConsulLock.create(BackendContext(settings, {})).read("k")
