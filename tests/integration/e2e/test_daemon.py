"""``leadertag run`` on each node: elect, fail over, restart, stop, reload."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.e2e.site import Node, Site, role_of, tag_changes
from tests.tools.consul import ConsulCluster
from tests.tools.processes import wait_until
from tests.tools.recorder import ServiceRecorder


@pytest.mark.parametrize("probe", [True, False], ids=["probe", "check-only"])
def test_elect_fail_over_and_return(
    site: Site, probe: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.on_each(Node.registration)
    with site.recorder() as recorder:
        site.start_daemons(probe=probe)
        first = site.wait_for_leader(recorder)
        site.wait_for_redis(first)
        site.wait_settled()
        assert site.on_each(Node.registration) == before
        assert len(site.gates()) == 1
        assert_idle(site)
        resolved = [node.agent.dns(f"{site.query}.query.consul")[0].value for node in site.nodes]
        assert resolved == [first.redis.ip] * 3

        first.redis.kill()
        second = site.wait_for_leader(recorder, not_on=first)
        site.wait_for_redis(second, down=first)
        first.redis.start()  # it starts as a master of its own
        recorder.wait_for(
            lambda seen: all(i.passing and role_of(i) for i in seen.instances), 30, "it is back"
        )
        assert site.wait_for_leader(recorder) is second
        site.wait_for_redis(second)
        site.wait_settled()
        recorder.assert_at_most_one("master")
        assert [event.split()[0] for event in second.events if "promote" in event] == ["promote"]
        assert site.on_each(Node.registration) == before
    with capsys.disabled():
        print(f" [{failover_times(recorder, first, second)}]", end=" ")


def assert_idle(site: Site) -> None:
    """While nothing happens, nothing is written: several confirmations and heartbeats long.

    An idle cluster appends an entry of its own now and then, but not in every window.
    """
    entries = []
    for _ in range(3):
        index = site.cluster.raft_index()
        time.sleep(2.0)  # the one way to see that nothing happens
        entries.append(site.cluster.raft_index() - index)
        if not entries[-1]:
            return
    raise AssertionError(f"raft entries in windows of 2 s in which nothing happened: {entries}")


def failover_times(recorder: ServiceRecorder, old: Node, new: Node) -> str:
    """From the old leader's check critical to the new one resolved, out of the history."""
    critical = next(
        c.at
        for c in recorder.timeline()
        if c.node == old.name and c.what.startswith("tcp:") and c.what.endswith("critical")
    )
    led = next(
        seen.at
        for seen in recorder.observations
        if any(i.node == new.name for i in seen.passing_with_tag("master"))
    )
    return f"check critical to new leader tagged and promoted: {1000 * (led - critical):+.0f} ms"


# -- restarts ----------------------------------------------------------------------------


def killed(node: Node) -> None:
    node.daemon.kill()


def terminated(node: Node) -> None:
    assert node.daemon.stop() == 0, node.daemon.log()


@pytest.mark.parametrize("end", [killed, terminated])
def test_restarts_change_no_role(site: Site, end: Callable[[Node], None]) -> None:
    with site.recorder() as recorder:
        site.start_daemons(on_stop="keep", lease="10s")
        leader = site.wait_for_leader(recorder)
        site.wait_for_redis(leader)
        site.wait_settled()
        events, since, term = [n.events for n in site.nodes], time.monotonic(), site.lock()["term"]

        def restart(*nodes: Node) -> None:
            for node in nodes:
                end(node)
            for node in nodes:
                node.daemon.start()
            site.wait_settled(nodes)

        restart(leader)
        restart(site.others(leader)[0])
        site.on_each(end)
        for node in site.nodes:
            node.daemon.start()
        site.wait_settled()
        site.wait_for_leader(recorder)
        assert tag_changes(recorder, since) == []
        assert [node.events for node in site.nodes] == events
        assert site.lock()["term"] == term
        site.wait_for_redis(leader)
        recorder.assert_at_most_one("master")


def test_the_guardian_of_an_earlier_daemon_leaves_a_later_one_alone(site: Site) -> None:
    """Its deadline passes just when the later daemon is being restarted as well."""
    with site.recorder() as recorder:
        site.start_daemons(lease="8s")
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        since = time.monotonic()
        leader.daemon.kill()
        leader.daemon.start()
        site.wait_settled([leader])
        # 0.9 x lease less the 1.7 s that its demote hooks may take and some slack: 5.4 s.
        time.sleep(max(0.0, since + 4.8 - time.monotonic()))
        leader.daemon.kill()
        time.sleep(max(0.0, since + 5.8 - time.monotonic()))
        leader.daemon.start()
        site.wait_settled()
        assert tag_changes(recorder, since) == []
        assert site.wait_for_leader(recorder) is leader
        recorder.assert_at_most_one("master")


# -- stopping ----------------------------------------------------------------------------


def test_sigterm_hands_the_leadership_over(site: Site) -> None:
    before = site.on_each(Node.registration)
    with site.recorder() as recorder:
        site.start_daemons(on_stop="release", lease="20s")  # far longer than the hand-over may take
        first = site.wait_for_leader(recorder)
        site.wait_settled()
        stopped = time.monotonic()
        assert first.daemon.stop() == 0, first.daemon.log()
        second = site.wait_for_leader(recorder, not_on=first, settled=False)
        led = next(s.at for s in recorder.observations
                   if any(i.node == second.name for i in s.passing_with_tag("master")))  # fmt: skip
        assert led - stopped < 15  # no lease was waited out
        site.wait_for_redis(second, down=first)
        assert "master" not in first.tags
        for node in site.others(first):
            assert node.daemon.stop() == 0, node.daemon.log()
        assert not site.gates()
        assert site.lock()["phase"] == "released"
        assert site.lock()["session"] == ""
        assert site.cluster.sessions() == []
        assert site.on_each(Node.registration) == before
        recorder.assert_at_most_one("master")


# -- reloading ---------------------------------------------------------------------------


def test_a_wrong_configuration_is_not_taken_over(site: Site) -> None:
    with site.recorder() as recorder:
        site.start_daemons()
        leader = site.wait_for_leader(recorder)
        site.wait_settled()
        index, since = site.cluster.wait_quiet(), time.monotonic()
        for wrong in ({"leese": "3s"}, {"lease": "soon"}, {"hooks": [{"use": "redsi"}]}):
            leader.write_config({"redis": site.election(**wrong)})
            leader.daemon.reload()
        assert leader.daemon.log().count("everything stays as it was") == 3
        assert leader.describe()["settled"]
        assert tag_changes(recorder, since) == []
        assert site.cluster.wrote_nothing_since(index)


def test_an_added_election_and_a_changed_hook_are_taken_over(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    site, other = make_site(consul_servers), make_site(consul_servers)
    with site.recorder() as recorder, other.recorder() as other_recorder:
        site.start_daemons()
        first = site.wait_for_leader(recorder)
        site.wait_settled()
        since = time.monotonic()
        for node, added in zip(site.nodes, other.nodes, strict=True):
            hooks = [node.redis_hook(), node.record_hook("changed")]
            elections = {
                "redis": site.election(hooks=hooks),
                "other": other.election(hooks=[added.redis_hook()]),
            }
            node.write_config(elections)
            node.daemon.reload()
        led = other.wait_for_leader(other_recorder)
        other.wait_for_redis(led)
        assert tag_changes(recorder, since) == []

        assert not (first.folder / "changed").exists()
        first.redis.kill()
        second = site.wait_for_leader(recorder, not_on=first)
        wait_until((second.folder / "changed").exists, 10, "the changed hook was run")
        assert "promote" in (second.folder / "changed").read_text()
        assert [e for e in second.events if "promote" in e] == []
        assert other.wait_for_leader(other_recorder) is led

        removed(site, other, second)
        recorder.assert_at_most_one("master")
        other_recorder.assert_at_most_one("master")


def removed(site: Site, other: Site, node: Node) -> None:
    """An election that is taken out of the file is given up in order."""
    hooks = [node.redis_hook(), node.record_hook("changed")]
    node.write_config({"redis": site.election(hooks=hooks)})
    node.daemon.reload()
    counterpart: Any = other.node(node.name)
    wait_until(lambda: "master" not in counterpart.tags, 15, "it leads the other one no more")
    wait_until(lambda: not node.describe("other"), 15, "it takes no part any more")
