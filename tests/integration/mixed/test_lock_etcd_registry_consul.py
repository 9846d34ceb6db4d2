"""The lock in etcd, tags and query in Consul: every failure that an operator will see."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.settings import LEASE, QUERY
from tests.integration.e2e.site import PATIENCE
from tests.integration.mixed.site import Host, MixedSite, now
from tests.tools.processes import wait_until


@pytest.fixture
def site(make_site: Callable[..., MixedSite]) -> MixedSite:
    return make_site("etcd", "consul")


@pytest.fixture
def note(capsys: pytest.CaptureFixture[str]) -> Callable[[str, float], None]:
    """Tells a time, for people: nothing is asserted about it."""

    def tell(what: str, seconds: float) -> None:
        with capsys.disabled():
            print(f" [{what}: {1000 * seconds:.0f} ms]", end="")

    return tell


def dns(site: MixedSite) -> list[list[str]]:
    """What each agent's DNS answers for the query."""
    found = [host.agent.dns(f"{QUERY}.query.consul") for host in site.hosts]
    return [[record.value for record in records] for records in found]


def resolves_everywhere(site: MixedSite, leader: Host) -> None:
    expected = [[leader.redis.ip]] * len(site.hosts)
    wait_until(lambda: dns(site) == expected, PATIENCE, f"DNS answers {leader.key} everywhere")


def test_failovers_with_both_servers_restarted(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    before = {host.key: host.registration() for host in site.hosts}
    first = site.assert_one_leader()
    resolves_everywhere(site, first)

    at = now()
    site.kill_service(first)
    second = site.wait_for_leader(but=first)
    note("service killed", site.since(at, first))
    site.restart_service(first)
    assert site.assert_one_leader() is second

    # Restarted quickly, neither is missed.
    term = second.describe()["term"]
    assert site.etcd is not None
    site.etcd.members[0].restart()
    site.cluster.server.restart()
    site.wait_settled()
    resolves_everywhere(site, site.assert_one_leader())

    third = site.assert_one_leader()
    assert third.describe()["term"] >= term
    at = now()
    third.daemon.kill()  # its guardian gives up in its place, in both backends
    fourth = site.wait_for_leader(but=third)
    note("daemon killed", site.since(at, third))
    third.daemon.start()
    site.wait_settled()
    last = site.assert_one_leader()
    assert last is fourth
    resolves_everywhere(site, last)
    site.assert_promises_kept(terms=3)
    assert {host.key: host.registration() for host in site.hosts} == before


def test_a_failover_during_which_both_servers_are_restarted(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    first = site.assert_one_leader()
    assert site.etcd is not None
    restarts = (site.etcd.members[0].restart, site.cluster.server.restart)
    at = now()
    site.kill_service(first)
    with ThreadPoolExecutor(len(restarts)) as pool:
        for done in [pool.submit(restart) for restart in restarts]:
            done.result()
    second = site.wait_for_leader(but=first)
    note("service killed, both servers restarted", site.since(at, first))
    site.restart_service(first)
    resolves_everywhere(site, site.assert_one_leader())
    assert site.assert_one_leader() is second
    site.assert_promises_kept(terms=2)


def test_the_lock_s_backend_is_lost_and_found(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    leader = site.assert_one_leader()
    term = leader.describe()["term"]
    assert site.etcd is not None
    member = site.etcd.members[0]
    at = now()
    member.process.kill()
    # Demoted, and nobody resolves, though Consul knows nothing of any trouble.
    site.wait(lambda: not site.seen.leader, "nobody resolves")
    note("lock lost, nobody resolves", now() - at)
    wait_until(lambda: leader.describe().get("role") != "leader", PATIENCE, "it has given up")
    wait_until(lambda: "master" not in leader.tags, PATIENCE, "its tag is off in Consul")
    assert not any(host.redis.role() == "master" for host in site.hosts)
    assert dns(site) == [[], [], []]
    at = now()
    member.process.start()
    member.wait_ready()
    found = site.wait_for_leader()
    note("etcd back, a leader", now() - at)
    assert site.assert_one_leader() is found
    assert found.describe()["term"] > term
    site.assert_promises_kept(terms=2)


def test_the_registry_is_lost_for_longer_than_a_lease(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    leader = site.assert_one_leader()
    term = leader.describe()["term"]
    at = now()
    site.cluster.server.stop()
    wait_until(
        lambda: leader.describe().get("role") != "leader" and leader.redis.role() == "slave",
        PATIENCE, "the leader gives up though its lock is alive",
    )  # fmt: skip
    note("registry lost, demoted", now() - at)
    others = site.others(leader)
    wait_until(
        lambda: all(host.describe()["state"] == "watching" for host in site.hosts),
        PATIENCE, "nobody campaigns without the registry",
    )  # fmt: skip
    assert not any(host.redis.role() == "master" for host in others)
    at = now()
    site.cluster.server.start()
    site.cluster.server.wait_ready()
    found = site.assert_one_leader()
    note("Consul back, settled", now() - at)
    resolves_everywhere(site, found)
    assert found.describe()["term"] > term
    site.assert_promises_kept(terms=2)


def test_the_registry_is_lost_for_the_leader_alone(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    leader = site.assert_one_leader()
    at = now()
    leader.agent.kill()
    second = site.wait_for_leader(but=leader)
    note("agent of the leader killed", site.since(at, leader))
    assert leader.redis.role() == "slave"
    leader.agent.start()
    leader.agent.wait_ready()
    resolves_everywhere(site, second)
    assert site.assert_one_leader() is second
    site.assert_promises_kept(terms=2)


def test_a_leader_that_cannot_look_at_the_others_gives_up(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    """Its registry goes while it is being promoted: those that can reach theirs are not kept."""
    first = site.assert_one_leader()
    second, third = site.others(first)
    control = second.folder / "control.json"
    control.write_text(json.dumps({"promote": 2.0}))
    done = site.command(third, "pause")
    assert done.exit_code == 0, done
    third.daemon.stop()  # so that it is the second that takes the lock
    assert site.command(first, "resume").exit_code == 0
    site.kill_service(first)
    wait_until(
        lambda: second.describe()["state"] == "promoting", PATIENCE, "the second is promoted"
    )
    second.agent.kill()
    third.daemon.start()
    at = now()
    assert site.wait_for_leader(but=first) is third
    note("a leader without registry gives up, and another one leads", site.since(at, first))
    control.write_text("{}")
    second.agent.start()
    second.agent.wait_ready()
    site.restart_service(first)
    assert site.assert_one_leader() is third
    site.assert_promises_kept(terms=2)


def test_a_host_is_lost_with_all_that_could_give_up(
    site: MixedSite, note: Callable[[str, float], None]
) -> None:
    """Agent, daemon and guardian: what closes the gate is the successor, in Consul alone."""
    leader = site.assert_one_leader()
    at = now()
    leader.agent.kill()
    site.kill_service(leader)
    leader.daemon.kill_all()
    second = site.wait_for_leader(but=leader)
    note("host lost", site.since(at, leader))
    site.wait_settled(*site.others(leader))
    leader.agent.start()
    leader.agent.wait_ready()
    site.restart_service(leader)
    leader.daemon.start()
    assert site.assert_one_leader() is second
    site.assert_promises_kept(terms=2)


def test_planned_change(site: MixedSite, note: Callable[[str, float], None]) -> None:
    first = site.assert_one_leader()
    wanted, other = site.others(first)
    at = now()

    def switched() -> bool:
        done = site.command(other, "switchover", "--to", wanted.name)
        # It may have tried to lead at the start, and leave it to others for a second.
        assert done.exit_code == 0 or "it stands back" in done.stderr, done
        return done.exit_code == 0

    wait_until(switched, PATIENCE, "the switchover has come about")
    assert site.wait_for_leader(but=first) is wanted
    note("switchover, with the start of its command", site.since(at, first))
    assert site.assert_one_leader() is wanted

    assert site.command(first, "pause", "--reason", "work").exit_code == 0
    wait_until(lambda: wanted.describe()["paused"], PATIENCE, "the leader knows of the pause")
    site.kill_service(wanted)
    site.wait(lambda: not site.seen.leader, "nobody resolves")
    wait_until(
        lambda: wanted.describe()["state"] == "suspended", PATIENCE, "it keeps the lock in a pause"
    )
    assert site.seen.holder == wanted.key
    assert site.command(first, "resume").exit_code == 0
    third = site.wait_for_leader(but=wanted)
    site.restart_service(wanted)
    assert site.assert_one_leader() is third
    told = site.command(first, "history", "--json").json["elections"][0]["changes"]
    assert [(c["from"], c["to"]) for c in told][-2:] == [
        (f"{first.name}/redis", f"{wanted.name}/redis"),
        (f"{wanted.name}/redis", f"{third.name}/redis"),
    ]
    site.assert_promises_kept(terms=3)


def test_the_role_is_kept_without_the_registry_where_that_is_asked_for(
    make_site: Callable[..., MixedSite],
) -> None:
    site = make_site("etcd", "consul", on_backend_loss="hold")
    leader = site.assert_one_leader()
    events = len(site.verdict().spans)
    site.cluster.server.stop()
    wait_until(
        lambda: leader.describe().get("state") == "holding", PATIENCE, "it holds on to its role"
    )
    # Longer than what a publication is tried for: nothing is published meanwhile.
    down = now()
    wait_until(lambda: now() > down + 4 * LEASE, PATIENCE, "the outage to last")
    assert leader.describe()["state"] == "holding", leader.daemon.log()[-3000:]
    assert leader.redis.role() == "master"
    site.cluster.server.start()
    site.cluster.server.wait_ready()
    assert site.assert_one_leader() is leader
    assert len(site.verdict().spans) == events
    site.assert_promises_kept(terms=1)
