"""Tags that somebody else changes, and elections that must not disturb one another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.integration.e2e.site import Node, Site, role_of
from tests.tools.consul import ConsulCluster
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation


def test_reverted_by_a_reload_of_the_services_file(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    site = make_site(consul_servers, register=False)
    for node in site.nodes:
        node.agent.write_services([node.file_definition()])
    try:
        site.on_each(lambda node: node.agent.reload())
        site.wait_registered()
        with site.recorder() as recorder:
            site.start_daemons()
            leader = site.wait_for_leader(recorder)
            site.wait_settled()
            before, events = site.on_each(Node.registration), [n.events for n in site.nodes]
            for node in (leader, *site.others(leader)):
                node.agent.reload()  # the file's tags are back now
                wait_until(lambda: site.tagged(expected(site, leader)), 15, "healed")
            assert site.wait_for_leader(recorder) is leader
            site.wait_settled()
            assert site.on_each(Node.registration) == before
            assert [node.events for node in site.nodes] == events
            recorder.assert_at_most_one("master")
    finally:
        for node in site.nodes:
            node.agent.write_services([])
        site.on_each(lambda node: node.agent.reload())


def expected(site: Site, leader: Node) -> dict[str, set[str]]:
    """The tags that all should have."""
    return {n.name: {"sensu", "master" if n is leader else "slave"} for n in site.nodes}


def test_changed_by_hand(site: Site) -> None:
    with site.recorder() as recorder:
        site.start_daemons()
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        term = site.lock()["term"]
        follower, other = site.others(leader)
        opposite = {"master": "slave", "slave": "master"}
        for node, tags in (
            (leader, ["sensu"]),
            (leader, ["sensu", "slave"]),
            (follower, ["sensu"]),
            (leader, ["sensu", "master", "added-by-hand"]),
            (leader, ["sensu", "added-by-hand"]),
            (other, ["sensu", "added-by-hand"]),
        ):
            role = "master" if node is leader else "slave"
            wanted = {*tags, role} - {opposite[role]}
            node.set_tags(tags)
            healed = partial(site.tagged, {node.name: wanted})
            wait_until(healed, 15, f"{tags} is healed")
        assert site.wait_for_leader(recorder) is leader
        assert site.lock()["term"] == term
        recorder.assert_at_most_one("master")


def test_a_follower_that_somebody_tags_as_leader(site: Site) -> None:
    """The one case in which two are seen for a moment: it ends with the follower's tag gone."""
    with site.recorder() as recorder:
        site.start_daemons()
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        follower = site.others(leader)[0]
        follower.set_tags(["sensu", "master"])
        wait_until(lambda: site.tagged(expected(site, leader)), 15, "it is a follower again")
        assert site.wait_for_leader(recorder) is leader


def test_the_gate_removed_by_hand(site: Site) -> None:
    with site.recorder() as recorder:
        site.start_daemons()
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        (gate,) = site.gates()
        leader.agent.api("PUT", f"/v1/agent/check/deregister/{gate}")
        removed = f"{gate} removed"
        wait_until(lambda: removed in [c.what for c in recorder.timeline()], 15, "it is gone")
        wait_until(lambda: site.gates() == [gate], 15, "the gate is back")
        assert site.wait_for_leader(recorder) is leader
        recorder.assert_at_most_one("master")


def test_the_query_changed_and_removed_by_hand_is_mended_by_check(site: Site) -> None:
    site.on_each(site.check)
    server = site.cluster.server
    leader = next(node for node in site.nodes if "master" in node.tags)
    (query,) = [q for q in server.get("/v1/query") if q["Name"] == site.query]
    service = {**query["Service"], "Tags": ["sensu"]}
    server.api("PUT", f"/v1/query/{query['ID']}", {**query, "Service": service})
    assert site.check(leader).exit_code == 0
    (mended,) = [q for q in server.get("/v1/query") if q["Name"] == site.query]
    assert mended["ID"] == query["ID"]  # changed in place
    assert sorted(mended["Service"]["Tags"]) == ["master", "sensu"]
    server.api("DELETE", f"/v1/query/{query['ID']}")
    assert site.check(leader).exit_code == 0
    assert leader.agent.dns(f"{site.query}.query.consul")[0].value == leader.redis.ip


# -- several instances, several elections ------------------------------------------------


def test_two_instances_of_the_service_on_one_node(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    """Ids that differ from the name; each instance has a daemon; one of four leads."""
    site = make_site(consul_servers, service_id="cache-a")
    node = site.nodes[0]
    second = node.definition(ID="cache-b", Port=node.redis.port, Checks=[])
    node.agent.register_service(second)
    with site.recorder() as recorder:
        for each in site.nodes:
            settings = site.election(service_id="cache-a", on_stop="release")
            each.start_daemon(each.write_config({"redis": settings}))
        settings = site.election(service_id="cache-b", on_stop="release")
        node.start_daemon(node.write_config({"redis": settings}, file="second"))

        def leaders() -> list[str]:
            return [f"{i.node}/{i.id}" for i in recorder.last.passing_with_tag("master")]

        def settled() -> bool:
            roles = [role for i in recorder.last.instances for role in role_of(i)]
            return len(leaders()) == 1 and len(roles) == 4

        wait_until(settled, 30, "one leads, three follow")
        led = set()
        for _ in range(4):  # each in turn: who has led is not started again
            (leader,) = leaders()
            led.add(leader)
            name, _, instance = leader.partition("/")
            daemons = {d.config.stem: d for d in site.node(name).daemons}
            daemons["second" if instance == "cache-b" else "leadertag"].stop()
            if len(led) < 4:
                recorder.wait_for(partial(led_by_another, leader), 15, "the next one")
        assert led == {"n1/cache-a", "n1/cache-b", "n2/cache-a", "n3/cache-a"}
        recorder.assert_at_most_one("master")


def led_by_another(old: str, seen: Observation) -> bool:
    """Whether an instance other than this one resolves as leader."""
    leaders = [f"{i.node}/{i.id}" for i in seen.passing_with_tag("master")]
    return leaders not in ([], [old])


def test_one_elections_trouble_is_not_anothers(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    site, hanging, foreign = (make_site(consul_servers) for _ in range(3))
    key = f"/v1/kv/leadertag/locks/{foreign.service}/{foreign.query}"
    site.cluster.server.api("PUT", key, b"somebody's notes")
    with site.recorder() as recorder, hanging.recorder() as hung:
        for node in site.nodes:
            sleep = {"use": "command", "command": ["sleep", "600"], "events": ["promote"]}
            node.start_daemon(node.write_config({
                "redis": site.redis_election(node),
                "missing": {"service": f"no-{site.service}", "query": f"no-{site.query}"},
                "foreign": foreign.election(),
                "hanging": hanging.election(hooks=[{**sleep, "timeout": {"promote": "3s"}}],
                                            stand_back="1s"),
            }))  # fmt: skip
        first = site.wait_for_leader(recorder)
        site.wait_for_redis(first)
        wait_until(
            lambda: any("sleep took longer" in node.daemon.log() for node in site.nodes),
            20,
            "a hook hangs and is ended",
        )
        first.redis.kill()
        second = site.wait_for_leader(recorder, not_on=first)
        site.wait_for_redis(second, down=first)
        assert all(node.daemon.process.running for node in site.nodes)
        recorder.assert_at_most_one("master")
        hung.assert_at_most_one("master")
        assert not any(found for _, found in hung.passing_with_tag("master"))
        assert site.cluster.server.api("GET", key, None, {"raw": ""})[0] == "somebody's notes"
        assert all(node.tags == ["sensu"] for node in foreign.nodes)
        reason = first.describe("foreign")["reason"]
        assert "not leadertag's" in reason
        assert f"no-{site.service}" in first.describe("missing")["reason"]
        # A service that comes late is taken in.
        late = first.definition(ID="late", Name=f"no-{site.service}", Checks=[])
        first.agent.register_service(late)
        try:
            with site.cluster.recorder(f"no-{site.service}") as late_recorder:
                late_recorder.wait_for(lambda seen: seen.passing_with_tag("master"), 20, "it leads")
        finally:
            first.agent.deregister_service("late")
