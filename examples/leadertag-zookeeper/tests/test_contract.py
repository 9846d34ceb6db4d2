"""The three providers, held to leadertag's contracts on a real server."""

from __future__ import annotations

import pytest
from harness import ZooKeeperHarness
from leadertag.testing.contracts import (
    BackendContract,
    LockContract,
    QueryContract,
    RegistryContract,
)


class _OnZooKeeper:
    @pytest.fixture
    def harness(self, zookeeper: ZooKeeperHarness) -> ZooKeeperHarness:
        return zookeeper


class TestBackend(_OnZooKeeper, BackendContract):
    pass


class TestLock(_OnZooKeeper, LockContract):
    pass


class TestRegistry(_OnZooKeeper, RegistryContract):
    pass


class TestQuery(_OnZooKeeper, QueryContract):
    pass
