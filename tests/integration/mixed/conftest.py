"""Sites of mixed elections; each has servers of its own, which its test may break."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.integration.mixed.site import Kinds, MixedSite
from tests.tools.consul import ConsulCluster
from tests.tools.etcd import EtcdCluster

_SITES = pytest.StashKey[list[MixedSite]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the daemons wrote with a test that failed."""
    report = yield
    if report.when == "call" and report.failed:
        for site in item.stash.get(_SITES, []):
            for host in site.hosts:
                for daemon in host.daemons:
                    report.sections.append((daemon.process.name, daemon.process.log_tail()))
    return report


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path in it must fit the kernel's 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ltm-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_site(
    request: pytest.FixtureRequest,
    folder: Path,
    make_cluster: Callable[..., ConsulCluster],
    etcd_factory: Callable[..., EtcdCluster],
) -> Iterator[Callable[..., MixedSite]]:
    """Makes a site on servers of its own: `make_site("etcd", "consul")`, lock and registry."""
    need("redis-server")
    pytest.importorskip("redis")
    sites = request.node.stash.setdefault(_SITES, [])
    with ExitStack() as stack:

        def make(
            lock: str, registry: str, *, one_agent: bool = False, start: bool = True,
            with_etcd: bool = False, **election: Any,
        ) -> MixedSite:  # fmt: skip
            cluster = make_cluster(1 if one_agent else 3)
            etcd = etcd_factory() if with_etcd or "etcd" in (lock, registry) else None
            site = MixedSite(
                Kinds(lock, registry), folder / str(len(sites)), cluster, etcd,
                one_agent=one_agent, **election,
            )  # fmt: skip
            sites.append(site)
            stack.callback(site.close)
            if start:
                site.start()
                site.assert_one_leader()
            return site

        yield make
