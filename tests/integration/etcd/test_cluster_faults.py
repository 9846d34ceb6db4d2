"""An election of three daemons while their etcd cluster loses members, a link, its quorum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.clock import now
from tests.conftest import need
from tests.integration.etcd.site import LEASE, PATIENCE, Node, Site, wait_out
from tests.tools.etcd import EtcdCluster
from tests.tools.etcd_relay import RelayedCluster
from tests.tools.processes import wait_until

MORE = 1.0
"""Seconds after a lease: whatever the fault was to bring about has been brought about."""


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[EtcdCluster], Site]]:
    """Starts cluster and site; they end with the test."""
    need("etcd", "redis-server")
    pytest.importorskip("redis")
    with ExitStack() as stack:

        def make(cluster: EtcdCluster) -> Site:
            stack.enter_context(cluster)
            return stack.enter_context(Site(cluster, tmp_path / "site"))

        yield make


def assert_kept(site: Site, leader: Node, term: int, since: float) -> None:
    """Since the fault no hook of any role has run, and the same one leads in the same term."""
    assert site.acts_since(since) == []
    assert site.wait_settled() is leader
    assert site.term == term
    assert site.acts_since(since) == []
    found = site.verdict()
    assert found.broken == []
    assert [(span.node, span.term) for span in found.spans if span.until is None] == [
        (leader.name, term)
    ]
    assert leader.resolved() == [f"{leader.redis.ip}:{leader.redis.port}"]


def test_the_etcd_leader_is_killed(
    make_site: Callable[[EtcdCluster], Site], tmp_path: Path
) -> None:
    """The one that the leading daemon asks, and all others through it."""
    site = make_site(EtcdCluster(tmp_path / "etcd", 3))
    leader, term = site.wait_settled(), site.term
    member = site.cluster.members[site.nodes.index(leader)]
    site.cluster.hand_over(member)
    struck = now()
    member.process.kill()
    wait_until(site.cluster.leader, PATIENCE, "etcd has another leader")
    wait_out(LEASE + MORE, struck)
    assert_kept(site, leader, term, struck)

    member.process.start()
    member.wait_ready()
    assert_kept(site, leader, term, struck)


@pytest.mark.parametrize(
    ("leading", "clients"),
    [(False, False), (True, False), (True, True)],
    ids=["follower-from-peers", "leader-from-peers", "leader-from-all"],
)
def test_the_member_that_is_asked_first_is_cut_off(
    make_site: Callable[[EtcdCluster], Site], tmp_path: Path, leading: bool, clients: bool
) -> None:
    """Where only its peers do not hear it, it still answers, and would tell of the past."""
    cluster = RelayedCluster(tmp_path / "etcd")
    site = make_site(cluster)
    leader, term = site.wait_settled(), site.term
    member = cluster.members[site.nodes.index(leader)]
    others = [one for one in cluster.members if one is not member]
    cluster.hand_over(member if leading else others[0])
    with cluster.cut_off(member.name, clients=clients):
        struck = now()
        wait_until(lambda: any(one.leads() for one in others), PATIENCE, "the others have a leader")
        wait_until(lambda: not member.knows_a_leader(), PATIENCE, "it hears of none")
        wait_out(LEASE + MORE, struck)
        assert_kept(site, leader, term, struck)
    healed = now()
    member.wait_ready()
    wait_out(LEASE + MORE, healed)  # what it has missed is told to it
    assert_kept(site, leader, term, struck)


def test_quorum_is_lost_for_longer_than_a_lease_and_regained(
    make_site: Callable[[EtcdCluster], Site], tmp_path: Path
) -> None:
    site = make_site(EtcdCluster(tmp_path / "etcd", 3))
    leader, term = site.wait_settled(), site.term
    bound = site.bounds()["cut-off leader has stopped acting"]
    before = now()
    for member in site.cluster.members[1:]:
        member.process.kill()
    lost = now()

    def demoted() -> bool:
        ends = [line for line in leader.hooks if line["what"] == "end" and line["t"] > before]
        return any(line["event"] == "demote" and line["place"] == "last" for line in ends)

    wait_until(demoted, PATIENCE, "the leader has demoted")
    wait_out(LEASE + MORE, lost)
    (end,) = [
        line["t"] for line in leader.hooks
        if (line["event"], line["what"], line["place"]) == ("demote", "end", "last")
    ]  # fmt: skip
    assert end <= lost + bound, "a promise, not a measurement: the lease ends then"
    assert leader.redis.role() == "slave"
    changes = {act for act in site.acts_since(before) if act[1] != "follow"}
    assert changes == {(leader.name, "demote")}, "and nobody has succeeded"

    for member in site.cluster.members[1:]:
        member.process.start()
    for member in site.cluster.members:
        member.wait_ready(PATIENCE)
    successor = site.wait_settled()
    assert site.term > term
    found = site.verdict()
    assert found.broken == []
    assert [span.node for span in found.spans if span.until is None] == [successor.name]
    assert successor.resolved() == [f"{successor.redis.ip}:{successor.redis.port}"]
