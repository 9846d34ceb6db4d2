"""The other combinations: an election, failovers, and every server restarted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.e2e.site import PATIENCE
from tests.integration.mixed.site import MixedSite, now
from tests.tools.processes import wait_until

COMBINATIONS = {
    "lock consul, registry etcd": ("consul", "etcd", False),
    "lock consul, a local registry on each host": ("consul", "local", False),
    "lock local, registry consul, one host": ("local", "consul", True),
}


@pytest.fixture(params=sorted(COMBINATIONS))
def site(request: pytest.FixtureRequest, make_site: Callable[..., MixedSite]) -> MixedSite:
    lock, registry, one_agent = COMBINATIONS[request.param]
    return make_site(lock, registry, one_agent=one_agent)


def test_failovers_with_the_servers_restarted(
    site: MixedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    first = site.assert_one_leader()
    at = now()
    site.kill_service(first)
    second = site.wait_for_leader(but=first)
    times = [site.since(at, first)]
    site.restart_service(first)
    assert site.assert_one_leader() is second

    if site.etcd is not None:
        site.etcd.members[0].restart()
    site.cluster.server.restart()
    third = site.assert_one_leader()
    at = now()
    third.daemon.kill()  # its guardian gives up in its place
    fourth = site.wait_for_leader(but=third)
    times.append(site.since(at, third))
    third.daemon.start()
    assert site.assert_one_leader() is fourth
    site.assert_promises_kept(terms=3)
    with capsys.disabled():
        print(" [service killed {:.0f} ms, daemon killed {:.0f} ms]".format(
            *(1000 * seconds for seconds in times)), end="")  # fmt: skip


def test_a_successor_s_heart_opens_no_dead_leader_s_gate(
    make_site: Callable[..., MixedSite],
) -> None:
    """Two processes on one agent, and no Consul lock to tell their names: gates stay apart."""
    site = make_site("local", "consul", one_agent=True)
    first = site.assert_one_leader()
    site.lose_leadertag(first)
    site.wait(lambda: not site.seen.leader, "its gate has closed")
    closed = now()
    second = site.wait_for_leader(but=first)
    site.wait_settled(*site.others(first))
    assert "master" in first.tags  # behind a gate that nobody feeds
    assert site.resolved_since(closed) == {second.key}
    first.daemon.start()
    assert site.assert_one_leader() is second
    site.assert_promises_kept(terms=2)


def test_a_lock_of_one_host_is_refused_over_a_registry_of_several(
    make_site: Callable[..., MixedSite],
) -> None:
    site = make_site("local", "consul", start=False)
    site.start()
    alone, *others = site.hosts
    refused = "'local' is this host's alone"
    for host in site.hosts:
        wait_until(
            lambda host=host: refused in host.describe().get("reason", ""), PATIENCE,  # type: ignore[misc]
            f"{host.key} says why it does not lead",
        )  # fmt: skip
    assert not site.seen.leader
    assert not site.verdict().spans
    for host in others:
        host.daemon.kill_all()
        site.deregister(host)
    assert site.wait_for_leader() is alone
    wait_until(lambda: site.resolved(alone) == [alone.redis.ip], PATIENCE, "it is resolved")
    assert len(site.verdict().spans) == 1
    assert not site.verdict().broken


def test_the_lock_moves_to_another_backend(make_site: Callable[..., MixedSite]) -> None:
    """As the page says: everywhere at once, and the terms of the old one are forgotten."""
    site = make_site("consul", "consul", with_etcd=True)
    site.move_lock("etcd", forget=False)
    low = "which was seen before (a rebuilt or restored backend?"
    wait_until(
        lambda: any(low in host.describe().get("reason", "") for host in site.hosts), PATIENCE,
        "a member says that the terms are too low",
    )  # fmt: skip
    assert not site.seen.leader
    site.move_lock("etcd", forget=True)
    site.assert_one_leader()
    assert not [found for found in site.verdict().broken if found.promise in ("I1", "I2", "I4")]
