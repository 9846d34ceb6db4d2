"""Agent, daemon and guardian of the leader killed at once, and started again.

Nobody was left to demote, so what comes back still says that it leads: the registration in
the agent's own files, and the service, where it went on. No index may show it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.model import Gate
from tests.integration.drills.drill import TURNS, Drill
from tests.integration.e2e.site import PATIENCE, Node
from tests.tools.consul import ConsulCluster
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation


def kill_all(node: Node, *, service: bool) -> None:
    """Everything of leadertag and Consul there, and its Redis as well if told so."""
    node.agent.kill()
    node.daemon.kill_all()
    if service:
        node.redis.kill()


def agent_first(cluster: ConsulCluster, node: Node) -> None:
    """The agent is in the cluster again before leadertag runs."""
    node.agent.start(join=cluster.server.ip)
    node.agent.wait_ready()
    node.daemon.start()


def leadertag_first(cluster: ConsulCluster, node: Node) -> None:
    """leadertag has given up on the agent at least once before that one runs."""
    before = node.daemon.log()
    node.daemon.start()
    wait_until(
        lambda: "WARNING" in node.daemon.log()[len(before) :], PATIENCE, "it misses its agent"
    )
    node.agent.start(join=cluster.server.ip)
    node.agent.wait_ready()


ORDERS = [agent_first, leadertag_first]
Back = Callable[[ConsulCluster, Node], None]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("service_dies", [False, True])
@pytest.mark.parametrize("come_back", ORDERS)
def test_back_beside_a_successor(
    drill: Drill, come_back: Back, service_dies: bool, turn: int
) -> None:
    site = drill.site
    drill.start()
    old, term = drill.settled()
    kill_all(old, service=service_dies)
    new = site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    began = drill.began(new, term)
    if service_dies:
        old.redis.start()  # a master of its own, until it is told otherwise
    come_back(site.cluster, old)
    drill.await_mark(node=old.name, event="follow", place="last", term=began.term)
    site.wait_settled()
    assert site.wait_for_leader(drill.recorder) is new
    site.wait_for_redis(new)
    drill.assert_unresolved(old, began.at)


def stop_leadertag(node: Node) -> None:
    """There is no member any more."""
    node.daemon.stop()


def fail_service(node: Node) -> None:
    """There is a member, but its service is not fit to lead."""
    node.redis.kill()


ALONE = [(agent_first, stop_leadertag), (leadertag_first, fail_service)]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("come_back", "rule_out"), ALONE)
def test_back_where_nobody_could_succeed(
    drill: Drill, come_back: Back, rule_out: Callable[[Node], None], turn: int
) -> None:
    """It leads again, in a term of its own, after it has demoted what it came back as."""
    old, term = come_back_alone(drill, come_back, rule_out)
    promoted = drill.began(old, term)
    demoted = drill.find(node=old.name, event="demote", place="last", term=term)
    assert demoted
    assert demoted[-1][1].at <= promoted.at


@pytest.mark.parametrize("turn", TURNS)
def test_no_index_shows_the_old_term_where_nobody_could_succeed(drill: Drill, turn: int) -> None:
    old, term = come_back_alone(drill, agent_first, fail_service)
    fresh = (Gate("redis", drill.began(old, term).term).id, "passing")
    lost = next(n for n, m in enumerate(drill.recorder.observations) if session_lost(m, old))
    for seen in drill.recorder.observations[lost:]:
        assert all(fresh in i.checks for i in seen.passing_with_tag("master")), seen


def come_back_alone(
    drill: Drill, come_back: Back, rule_out: Callable[[Node], None]
) -> tuple[Node, int]:
    """The leader is killed with its agent, no other can follow, and it is back; its old term."""
    site = drill.site
    drill.start()
    old, term = drill.settled()
    for other in site.others(old):
        rule_out(other)
    drill.recorder.wait_for(lambda seen: alone_or_idle(drill, seen, old), PATIENCE, "it is alone")
    kill_all(old, service=False)
    wait_until(lambda: not site.lock()["session"], PATIENCE, "its session is gone")
    come_back(site.cluster, old)

    def leads_anew() -> bool:
        again = [m for _, m in drill.find(node=old.name, event="promote") if m.term > term]
        return bool(again) and site.lock()["phase"] == "leading"

    wait_until(leads_anew, 2 * PATIENCE, "it leads in a new term")
    assert site.wait_for_leader(drill.recorder, settled=False) is old
    return old, term


def alone_or_idle(drill: Drill, seen: Observation, leader: Node) -> bool:
    """Whether no other member could lead: it is not there, or its service does not pass."""
    others = {node.name: node for node in drill.site.others(leader)}
    return not any(
        i.passing and others[i.node].daemon.process.running
        for i in seen.instances
        if i.node in others
    )


def session_lost(seen: Observation, node: Node) -> bool:
    """Whether Consul holds that node for dead, with whatever was registered there."""
    return ("serfHealth", "critical") in next(
        i for i in seen.instances if i.node == node.name
    ).checks
