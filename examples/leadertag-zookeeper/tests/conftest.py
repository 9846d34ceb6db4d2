"""The server that the tests write to, under a prefix of their own that they remove again.

``ZOOKEEPER_TEST_HOST=127.0.0.1:2181`` names it; ``ZOOKEEPER_TEST_TICK=2000`` is its tickTime in
milliseconds. It has to allow sessions of 40 seconds (maxSessionTimeout).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the harness, whatever the import mode

from harness import ZooKeeperHarness


@pytest.fixture
def zookeeper() -> Iterator[ZooKeeperHarness]:
    server = os.environ.get("ZOOKEEPER_TEST_HOST")
    if not server:
        pytest.skip("no server to test with: set ZOOKEEPER_TEST_HOST=127.0.0.1:2181")
    made = ZooKeeperHarness(server, int(os.environ.get("ZOOKEEPER_TEST_TICK", "2000")) / 1000)
    yield made
    made.close()
