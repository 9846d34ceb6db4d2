"""``leadertag check`` and the predecessor's command, run once on each node."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.e2e.site import Node, Site, one_line, role_of
from tests.tools.consul import ConsulCluster
from tests.tools.leadertag import Finished, leadertag, predecessor_command

Run = Callable[[Site, Node], Finished]


def with_check(site: Site, node: Node) -> Finished:
    return site.check(node)


def with_one_dash(site: Site, node: Node) -> Finished:
    flags = ["-consul-service-name", site.service, "-consul-query-name", site.query]
    return predecessor_command(*flags, "-consul-query-tag", "sensu", env=node.env)


def with_two_dashes(site: Site, node: Node) -> Finished:
    flags = ["--consul-service-name", site.service, "--consul-query-name", site.query]
    return predecessor_command(*flags, "--consul-query-tag", "sensu", env=node.env)


def with_equals_signs(site: Site, node: Node) -> Finished:
    flags = [f"-consul-service-name={site.service}", f"--consul-query-name={site.query}"]
    return predecessor_command(*flags, "-consul-query-tag=sensu", env=node.env)


@pytest.mark.parametrize("run", [with_check, with_one_dash, with_two_dashes, with_equals_signs])
def test_one_round_elects_and_the_next_one_costs_nothing(site: Site, run: Run) -> None:
    before = site.on_each(Node.registration)
    results = site.on_each(lambda node: run(site, node))
    assert [result.exit_code for result in results] == [0, 0, 0], results
    seen = site.seen()
    assert sorted(role_of(instance) for instance in seen) == [["master"], ["slave"], ["slave"]]
    assert all("sensu" in instance.tags and instance.passing for instance in seen)
    assert site.on_each(Node.registration) == before
    assert not site.gates()  # nobody would feed them between two runs

    leader = next(site.node(i.node) for i in seen if role_of(i) == ["master"])
    assert_resolves_to(site, leader)

    index, sessions = site.cluster.raft_index(), len(site.cluster.sessions())
    again = site.on_each(lambda node: run(site, node))
    assert [result.exit_code for result in again] == [0, 0, 0], again
    assert site.cluster.wrote_nothing_since(index)
    assert len(site.cluster.sessions()) == sessions
    assert site.seen() == seen


def assert_resolves_to(site: Site, leader: Node) -> None:
    """The query's name answers with the leader alone, over DNS on every agent."""
    for node in site.nodes:
        (address,) = node.agent.dns(f"{site.query}.query.consul", "A")
        assert address.value == leader.redis.ip
        (target,) = node.agent.dns(f"{site.query}.query.consul", "SRV")
        assert target.port == leader.redis.port
        (named,) = node.agent.dns(target.value, "A")
        assert named.value == leader.redis.ip
    listed = leadertag("query", site.query, env=leader.env)
    assert one_line(listed.stdout) == f"{leader.redis.ip}:{leader.redis.port}"


def test_runs_at_the_same_time_on_one_node_take_turns(site: Site) -> None:
    node = site.nodes[0]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: site.check(node), range(4)))
    assert [result.exit_code for result in results] == [0, 0, 0, 0], results
    assert len(site.cluster.sessions()) == 1
    assert node.tags == ["sensu", "master"]


def test_the_leader_fails_between_two_runs(site: Site) -> None:
    """No hook, no daemon: the registry's own check says so, and the next runs act on it."""
    with site.recorder() as recorder:
        site.on_each(site.check)
        old = site.wait_for_leader(recorder)
        old.redis.kill()
        recorder.wait_for(lambda seen: not seen.passing_with_tag("master"), 10, "tcp critical")
        left = site.check(old)
        assert left.exit_code == 1, left  # a failing service is no healthy follower
        site.on_each(lambda node: site.check(node) if node is not old else None)
        new = site.wait_for_leader(recorder, not_on=old)
        old.redis.start()
        recorder.wait_for(lambda seen: all(i.passing for i in seen.instances), 10, "all passing")
        back = site.check(old)
        assert back.exit_code == 0, back
        assert old.tags == ["sensu", "slave"]
        assert site.wait_for_leader(recorder) is new
        recorder.assert_at_most_one("master")


def test_where_a_daemon_runs_the_election_it_is_asked(site: Site) -> None:
    with site.recorder() as recorder:
        site.start_daemons()
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        index, sessions = site.cluster.raft_index(), len(site.cluster.sessions())
        for node in site.nodes:
            config = str(node.daemon.config)
            asked = leadertag("--config", config, "check", "--election", "redis")
            assert asked.exit_code == 0, asked
            line = one_line(asked.stdout)
            assert "daemon" in line
            assert (": leader," in line) == (node is leader)
        assert site.cluster.wrote_nothing_since(index)
        assert len(site.cluster.sessions()) == sessions


def test_an_id_that_differs_from_the_name(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    site = make_site(consul_servers, service_id="cache-1")
    results = site.on_each(site.check)
    assert [result.exit_code for result in results] == [0, 0, 0], results
    roles = sorted(tuple(node.tags) for node in site.nodes)
    assert roles == [("sensu", "master"), ("sensu", "slave"), ("sensu", "slave")]
