"""etcd clusters for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import need
from tests.integration.etcd.process import Process, process_of
from tests.tools.etcd import EtcdCluster, EtcdMember


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    """One member for all tests that break nothing."""
    need("etcd")
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster.members[0]


@pytest.fixture
def three(etcd_factory: Callable[..., EtcdCluster]) -> EtcdCluster:
    """Three members that the test may break."""
    return etcd_factory(members=3)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Makes processes (`process_of`) whose connections end with the test."""
    processes: list[Process] = []

    def make(*words: Any, **settings: Any) -> Process:
        processes.append(process_of(*words, **settings))
        return processes[-1]

    yield make
    for process in processes:
        process.close()
