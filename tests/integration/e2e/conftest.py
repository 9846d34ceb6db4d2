"""Sites for the tests: on the cluster that all share, or on one that a test may break."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import need
from tests.integration.e2e.site import Site
from tests.tools.consul import ConsulCluster

_SITES = pytest.StashKey[list[Site]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the daemons wrote with a test that failed."""
    report = yield
    if report.when == "call" and report.failed:
        for site in item.stash.get(_SITES, []):
            for node in site.nodes:
                for daemon in node.daemons:
                    report.sections.append((daemon.process.name, daemon.process.log_tail()))
    return report


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path in it must fit the kernel's 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="lt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_site(
    request: pytest.FixtureRequest, folder: Path, unique_name: str
) -> Iterator[Callable[..., Site]]:
    """Makes sites that end with the test: `make_site(cluster, register=False)`."""
    need("redis-server")
    pytest.importorskip("redis")
    sites = request.node.stash.setdefault(_SITES, [])
    with ExitStack() as stack:

        def make(cluster: ConsulCluster, *, register: bool = True, service_id: str = "") -> Site:
            name = unique_name if not sites else f"{unique_name}-{len(sites)}"
            site = Site(cluster, folder / str(len(sites)), name, service_id=service_id)
            sites.append(site)
            stack.callback(site.close)
            site.start(register=register)
            return site

        yield make


@pytest.fixture
def site(consul_servers: ConsulCluster, make_site: Callable[..., Site]) -> Site:
    """Redis with a service on each of the three shared nodes.

    The cluster comes first here and in every test: it is cleared once the daemons are gone.
    """
    return make_site(consul_servers)
