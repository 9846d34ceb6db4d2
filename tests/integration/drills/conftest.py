"""The site of a drill: real Consul, Redis and daemons, and everything that happened in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.integration.drills.drill import Drill
from tests.integration.e2e.conftest import folder, make_site, pytest_runtest_makereport
from tests.integration.e2e.site import Site
from tests.tools.consul import ConsulCluster

__all__ = ["folder", "make_site", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def breakable_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    """A cluster whose agents may be killed: all drills of a test process share it."""
    need("consul")
    with ConsulCluster(tmp_path_factory.mktemp("consul")) as cluster:
        yield cluster


@pytest.fixture
def whole_consul(breakable_consul: ConsulCluster) -> Iterator[ConsulCluster]:
    """The same with all its agents up, before and after."""
    yield breakable_consul
    for agent in breakable_consul.agents:
        agent.resume()
        if not agent.process.running:
            agent.start(join=breakable_consul.server.ip)
    for agent in breakable_consul.agents:
        agent.wait_ready()
    breakable_consul.clear()


@pytest.fixture
def drill(
    whole_consul: ConsulCluster, folder: Path, make_site: Callable[..., Site]
) -> Iterator[Drill]:
    """Three nodes, nothing started yet; whatever a test does, no index shows two leaders."""
    site = make_site(whole_consul)
    with site.recorder() as recorder:
        made = Drill(site, recorder, folder / "marks")
        yield made
        recorder.assert_at_most_one("master")
