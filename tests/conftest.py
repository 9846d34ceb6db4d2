"""Fixtures for all tests: real servers, each run on addresses of its own.

A server that is missing is fetched (LEADERTAG_TEST_OFFLINE=1 forbids that). When it
cannot be had, its tests are skipped on a laptop and *fail* where CI is set: a suite
that quietly tests nothing is worse than a red one.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tools.servers import ServerMissing, require

if TYPE_CHECKING:
    from tests.tools.consul import ConsulCluster
    from tests.tools.etcd import EtcdCluster
    from tests.tools.redis import RedisServer


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores it, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def on_ci() -> bool:
    """Whether the environment says so: CI set to anything but 0, false or nothing."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def need(*programs: str) -> None:
    """Fetches the programs as needed; skips, or on CI fails, when one cannot be had."""
    for program in programs:
        missing = None
        try:
            require(program)
        except ServerMissing as error:
            missing = str(error)
        if missing is not None and on_ci():
            pytest.fail(missing, pytrace=False)
        if missing is not None:
            pytest.skip(missing)


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses: for services, keys and queries of shared servers."""
    test = "".join(c if c.isalnum() else "-" for c in request.node.originalname)
    return f"{test[:30].strip('-')}-{uuid.uuid4().hex[:8]}".replace("_", "-")


@pytest.fixture(scope="session")
def shared_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    """The one cluster of this test process: take `consul_servers`, which leaves it clean."""
    need("consul")
    from tests.tools.consul import ConsulCluster

    folder = tmp_path_factory.mktemp("consul")
    with ConsulCluster(folder, script_checks=True) as cluster:
        yield cluster


@pytest.fixture
def consul_servers(shared_consul: ConsulCluster) -> Iterator[ConsulCluster]:
    """One server and the agents n1, n2, n3, shared with other tests: use unique names.

    What a test leaves would write at any later moment - a session that expires, a check
    that is not fed any more - while another test counts raft entries.
    """
    yield shared_consul
    shared_consul.clear()


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., ConsulCluster]]:
    """Starts a cluster of the test's own, which it may break: the options of ConsulCluster."""
    need("consul")
    from tests.tools.consul import ConsulCluster

    with ExitStack() as stack:

        def make(agents: int = 3, **options: Any) -> ConsulCluster:
            folder = tmp_path / f"consul-{uuid.uuid4().hex[:8]}"
            return stack.enter_context(ConsulCluster(folder, agents, **options))

        yield make


@pytest.fixture
def redis_factory(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers of the test's own, each on an address: `redis_factory()`."""
    need("redis-server")
    pytest.importorskip("redis")
    from tests.tools.redis import RedisServer

    with ExitStack() as stack:

        def make(**options: str) -> RedisServer:
            name = f"redis-{uuid.uuid4().hex[:8]}"
            settings = {key.replace("_", "-"): value for key, value in options.items()}
            server = RedisServer(tmp_path / name, name=name, options=settings)
            return stack.enter_context(server)

        yield make


@pytest.fixture
def etcd_factory(tmp_path: Path) -> Iterator[Callable[..., EtcdCluster]]:
    """Starts etcd clusters of the test's own: `etcd_factory(members=3)`."""
    need("etcd")
    from tests.tools.etcd import EtcdCluster

    with ExitStack() as stack:

        def make(members: int = 1) -> EtcdCluster:
            folder = tmp_path / f"etcd-{uuid.uuid4().hex[:8]}"
            return stack.enter_context(EtcdCluster(folder, members))

        yield make
