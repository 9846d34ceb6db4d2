"""``leadertag check`` as a health check that Consul runs every second."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.e2e.site import Node, Site, role_of
from tests.tools.consul import ConsulCluster
from tests.tools.leadertag import COMMAND
from tests.tools.processes import wait_until


def election_check(node: Node, *command: str) -> dict[str, object]:
    """A script check of the service; the agent's own environment is all it gets."""
    args = ["env", *(f"{key}={value}" for key, value in node.env.items()), *command]
    id_ = f"election:{node.service_id}"
    return {"id": id_, "name": "Election", "args": args, "interval": "1s", "timeout": "15s"}


def test_failover_by_script_checks(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    site = make_site(consul_servers, register=False)
    for node in site.nodes:
        settings = site.redis_election(node, lease="12s")
        config = str(node.write_config({"redis": settings}))
        words = ["--config", config, "check", "--election", "redis", "--interval", "1s"]
        check = election_check(node, *COMMAND, *words)
        node.agent.write_services([node.file_definition(check)])
    try:
        with site.recorder() as recorder:
            site.on_each(lambda node: node.agent.reload())
            first = site.wait_for_leader(recorder)
            site.wait_for_redis(first)
            assert all("sensu" in node.tags for node in site.nodes)

            first.redis.kill()
            second = site.wait_for_leader(recorder, not_on=first)
            site.wait_for_redis(second, down=first)
            first.redis.start()  # it starts as a master of its own
            recorder.wait_for(
                lambda seen: all(i.passing and role_of(i) for i in seen.instances),
                30,
                "the old leader is back as a follower",
            )
            assert site.wait_for_leader(recorder) is second
            site.wait_for_redis(second)
            recorder.assert_at_most_one("master")
            assert not any(
                i.node == first.name and i.passing and "master" in i.tags
                for seen in recorder.observations
                if any(role_of(j) == ["master"] and j.node == second.name for j in seen.instances)
                for i in seen.instances
            ), recorder.describe()
            wait_until(lambda: all_pass(site), 30, "every election check passes again")
    finally:
        for node in site.nodes:
            node.agent.write_services([])
        site.on_each(lambda node: node.agent.reload())


def all_pass(site: Site) -> bool:
    """Whether each instance's checks, the election's own included, pass."""
    return all(
        check["Status"] == "passing"
        for entry in site.cluster.health(site.service)
        for check in entry["Checks"]
    )
