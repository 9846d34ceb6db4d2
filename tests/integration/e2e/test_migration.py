"""The predecessor and leadertag in one cluster: there and back, without two masters."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.e2e.site import Node, Site, role_of
from tests.tools.consul import ConsulCluster
from tests.tools.leadertag import Daemon, predecessor_command
from tests.tools.predecessor import LOCK_FLAG, LockNotHeld, Predecessor
from tests.tools.processes import wait_until
from tests.tools.recorder import ServiceRecorder

COMPAT = "consul-master-election-tagger"
CHECKOUT = str(Path(__file__).parents[3])


class Runs(threading.Thread):
    """The predecessor as a health check of one node: run again and again."""

    def __init__(self, site: Site, node: Node, interval: float = 0.2) -> None:
        super().__init__(daemon=True)
        self.errors: list[Exception] = []
        self._program = Predecessor(node.agent.address, site.service, site.query, ["sensu"])
        self._interval = interval
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            try:
                self._program.run()
            except Exception as error:  # kept for the test's own thread
                # Created by leadertag between its look and its own try: the next run finds it.
                if "aliases an existing query name" not in str(error):
                    self.errors.append(error)
            self._end.wait(self._interval)

    def stop(self) -> None:
        """End it between two runs."""
        self._end.set()
        self.join(60)
        assert not self.errors, self.errors


def daemon_settings(site: Site, node: Node, **settings: Any) -> dict[str, Any]:
    """An election that shares the cluster with the predecessor."""
    return site.redis_election(node, compat=COMPAT, on_stop="release", **settings)


def start_daemon(site: Site, node: Node, **settings: Any) -> Daemon:
    return node.start_daemon(node.write_config({"redis": daemon_settings(site, node, **settings)}))


def stop_daemon(node: Node) -> None:
    daemon = node.daemons.pop()
    assert daemon.stop() == 0, daemon.log()


@contextmanager
def predecessors(site: Site) -> Iterator[dict[str, Runs]]:
    """One on each node; the block may end some and add others."""
    runs = {node.name: Runs(site, node) for node in site.nodes}
    for each in runs.values():
        each.start()
    try:
        yield runs
    finally:
        with ExitStack() as stack:
            for each in runs.values():
                stack.callback(each.stop)


def led_by(recorder: ServiceRecorder, node: Node) -> None:
    """Wait until this node's instance alone passes with the tag."""
    recorder.wait_for(
        lambda seen: [i.node for i in seen.passing_with_tag("master")] == [node.name],
        30,
        f"{node.name} leads",
    )


def order(site: Site, leader: Node, where: str) -> list[Node]:
    """All nodes, the leader's first or last."""
    others = site.others(leader)
    return [leader, *others] if where == "first" else [*others, leader]


# -- rolling --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["first", "last"])
def test_daemons_replace_it_node_by_node_and_back(site: Site, where: str) -> None:
    with site.recorder() as recorder, predecessors(site) as runs:
        leader = site.wait_for_leader(recorder)
        for node in order(site, leader, where):
            runs.pop(node.name).stop()
            start_daemon(site, node)
            if node is leader:
                wait_until(site.gates, 20, "it is adopted, with a gate")
            wait_until(node.describe, 20, f"{node.name} takes part")
            if not leader.daemons:
                assert_respected(site, leader, node)
            led_by(recorder, leader)
        site.wait_settled()
        site.wait_for_redis(leader)
        assert {c.node for c in recorder.timeline() if c.what == "tag +master"} == {leader.name}

        for node in order(site, leader, where):
            stop_daemon(node)
            runs[node.name] = Runs(site, node)
            runs[node.name].start()
            site.wait_for_leader(recorder)
        recorder.assert_at_most_one("master")
        assert not site.gates()
        assert site.lock()["session"] == ""
        tagged = site.node(recorder.last.passing_with_tag("master")[0].node).name
        site.cluster.server.api("DELETE", "/v1/kv/leadertag/", None, {"recurse": "true"})
        assert_stays(recorder, tagged)


def assert_respected(site: Site, leader: Node, node: Node) -> None:
    """A passing master of the predecessor's: nobody takes the lock, and the reason is told."""
    wait_until(
        lambda: f"{leader.name}/{leader.service_id} was made leader" in node.describe()["reason"],
        20,
        f"{node.name} respects {leader.name}: {node.describe()}",
    )
    keys = site.cluster.server.get("/v1/kv/", {"keys": ""}) or []
    assert not any(key.startswith("leadertag/locks/") and site.service in key for key in keys)


def assert_stays(recorder: ServiceRecorder, leader: str) -> None:
    """Over several runs of every predecessor."""
    since = time.monotonic()
    time.sleep(1.0)
    for seen in recorder.observations:
        if seen.at > since:
            assert [i.node for i in seen.passing_with_tag("master")] == [leader]


def write_check(node: Node, *command: str) -> None:
    """The election's check in a file of its own, as the predecessor's page has it."""
    check = {
        "id": f"election:{node.service_id}",
        "name": "Election",
        "service_id": node.service_id,
        "args": ["env", *(f"{k}={v}" for k, v in node.env.items()), *command],
        "interval": "1s",
        "timeout": "15s",
        "status": "passing",  # else all would call themselves master until it has passed
    }
    node.agent.write_checks([check] if command else [])
    node.agent.reload()


@pytest.mark.parametrize("where", ["first", "last"])
def test_script_checks_replace_it_node_by_node_and_back(site: Site, where: str) -> None:
    flags = [f"-consul-service-name={site.service}", f"-consul-query-name={site.query}"]
    flags += ["-consul-query-tag=sensu"]
    old = ["env", "-C", CHECKOUT, sys.executable, "-m", "tests.tools.predecessor", *flags]
    new = [str(Path(sys.executable).parent / COMPAT), *flags]
    try:
        site.on_each(lambda node: write_check(node, *old))
        for node in site.nodes:
            wait_until(partial(ran, node, old), 20, "it was run")
        with site.recorder() as recorder:
            leader = site.wait_for_leader(recorder)
            for command in (new, old):
                for node in order(site, leader, where):
                    write_check(node, *command)
                    wait_until(partial(ran, node, command), 20, "it was run")
                    now = site.wait_for_leader(recorder, settled=False)
                    assert now is leader, recorder.describe()
                if command is new:
                    site.wait_for_leader(recorder)
                    assert site.lock()["phase"] == "leading"
                    assert site.lock()["node"] == leader.name
            recorder.assert_at_most_one("master")
            assert {c.node for c in recorder.timeline() if c.what == "tag +master"} == {leader.name}
            assert not site.gates()
    finally:
        site.on_each(write_check)


def ran(node: Node, command: list[str]) -> bool:
    """Whether the check's output is of that program and says that all is well."""
    check = node.agent.get("/v1/agent/checks").get(f"election:{node.service_id}", {})
    mark = "leadertag: " if COMPAT in command[0] else "tagged "
    return check.get("Status") == "passing" and mark in check["Output"]


# -- both at once -----------------------------------------------------------------------------


def test_failovers_in_a_mixed_cluster(site: Site) -> None:
    """n1 and n2 by daemon, n3 by the predecessor: whoever leads, the others take over."""
    first, second, third = site.nodes
    with site.recorder() as recorder, ExitStack() as stack:
        start_daemon(site, first)
        led_by(recorder, first)
        start_daemon(site, second)
        old = Runs(site, third)
        stack.callback(old.stop)
        old.start()
        recorder.wait_for(
            lambda seen: [role_of(i) for i in seen.instances] == [["master"], ["slave"], ["slave"]],
            20,
            "two follow",
        )
        for _ in range(3):
            (leader,) = recorder.last.passing_with_tag("master")
            node = site.node(leader.node)
            if node is third:
                break  # its own return is the predecessor's to get right, and it does not
            node.redis.kill()
            site.wait_for_leader(recorder, not_on=node, settled=False)
            node.redis.start()
            recorder.wait_for(lambda seen: all(i.passing for i in seen.instances), 20, "it is back")
        recorder.assert_at_most_one("master")


def test_a_foreign_master_counts_as_a_lost_lock(site: Site) -> None:
    """The predecessor is not kept by any lock: when it made a master, leadertag gives up."""
    first, second, third = site.nodes
    with site.recorder() as recorder:
        for node in (first, third):
            start_daemon(site, node)
        leader = site.wait_for_leader(recorder, settled=False)
        site.wait_settled([first, third])
        second.set_tags(["sensu", "master"])
        led_by(recorder, second)
        wait_until(lambda: any("demote" in line for line in leader.events), 20, "it was demoted")
        wait_until(lambda: site.lock()["session"] == "", 20, "the lock was released")
        assert_respected_again(first, third)
        second.set_tags(["sensu", "slave"])
        site.wait_for_leader(recorder, not_on=second)


def assert_respected_again(*nodes: Node) -> None:
    def respected() -> bool:
        return all("was made leader" in node.describe()["reason"] for node in nodes)

    wait_until(respected, 20, "it is respected")


# -- the predecessor's lock -------------------------------------------------------------------


def pair_of(site: Site) -> dict[str, Any]:
    """The predecessor's lock as it stands."""
    key = Predecessor(site.cluster.server.address, site.service, site.query).lock_key
    (pair,) = site.cluster.server.get(f"/v1/kv/{key}")
    return dict(pair)


def test_its_lock_is_held_from_before_promote_until_the_tags_are_read(site: Site) -> None:
    first, second, _ = site.nodes
    started, go = first.folder / "started", first.folder / "go"
    script = f"touch {started}; while ! [ -e {go} ]; do sleep 0.02; done"
    command = {"use": "command", "command": ["/bin/sh", "-c", script], "events": ["promote"]}
    hook = {**command, "timeout": {"promote": "60s"}}
    with site.recorder() as recorder:
        start_daemon(site, first, hooks=[hook])
        wait_until(started.exists, 20, "promote runs")
        held = pair_of(site)
        assert held["Session"]
        assert held["Flags"] == LOCK_FLAG
        impatient = Predecessor(
            second.agent.address, site.service, site.query, ["sensu"], lock_wait=0.5, tries=2
        )
        with pytest.raises(LockNotHeld):
            impatient.run()
        assert not any("master" in i.tags for seen in recorder.observations for i in seen.instances)
        go.touch()
        led_by(recorder, first)
        wait_until(lambda: "Session" not in pair_of(site), 10, "the lock is given back")
        tagged = next(c.index for c in recorder.timeline() if c.what == "tag +master")
        assert pair_of(site)["ModifyIndex"] > tagged
        assert impatient.run() == "slave"  # at once: no lock delay was left behind
        assert second.tags == ["sensu", "slave"]


@pytest.mark.parametrize("point", ["locked", "executed", "master-locked", "tagged"])
def test_it_is_stopped_in_the_middle_of_a_run(site: Site, point: str) -> None:
    """Its lock is held: leadertag, elsewhere, waits; and sees what became of it."""
    first, second, third = site.nodes
    reached, go = threading.Event(), threading.Event()

    def at(name: str) -> None:
        if name == point:
            reached.set()
            go.wait(30)

    program = Predecessor(second.agent.address, site.service, site.query, ["sensu"], at=at)
    with site.recorder() as recorder:
        thread = threading.Thread(target=program.run, daemon=True)
        thread.start()
        assert reached.wait(10)
        for node in (first, third):
            start_daemon(site, node)
        wait_until(lambda: first.describe() and third.describe(), 20, "both take part")
        time.sleep(3.0)  # longer than one try for the lock
        assert not any("promote" in line for node in (first, third) for line in node.events)
        go.set()
        thread.join(10)
        led_by(recorder, second)
        assert_respected_again(first, third)
        recorder.assert_at_most_one("master")
        assert not any("promote" in line for node in (first, third) for line in node.events)


def test_an_orphaned_lock_is_waited_for_without_a_spin(site: Site) -> None:
    first, second, third = site.nodes
    flags = ["--consul-service-name", site.service, "--consul-query-name", site.query]
    dead = run_predecessor(second, *flags, "--die-at", "locked")
    assert dead == 9
    with site.recorder() as recorder:
        for node in (first, third):
            start_daemon(site, node)
        wait_until(lambda: first.describe() and third.describe(), 20, "both take part")
        index, since = site.cluster.raft_index(), time.monotonic()
        time.sleep(6.0)
        rate = (site.cluster.raft_index() - index) / (time.monotonic() - since)
        assert rate < 10, f"{rate:.0f} raft entries a second"
        assert not any("promote" in line for node in (first, third) for line in node.events)
        assert not any(found for _, found in recorder.passing_with_tag("master"))
        site.cluster.server.api("DELETE", f"/v1/kv/check-{site.query}-{site.service}")
        led_by(recorder, site.wait_for_leader(recorder, settled=False))


def run_predecessor(node: Node, *words: str) -> int:
    from tests.tools.leadertag import run_program

    argv = ["env", "-C", CHECKOUT, sys.executable, "-m", "tests.tools.predecessor", *words]
    return run_program(argv, node.env).exit_code


# -- the stand-in itself, and the command under its name ---------------------------------------


def test_the_stand_in_behaves_as_documented(site: Site) -> None:
    """One master; a registration reduced to six fields; sessions left behind."""
    programs = [
        Predecessor(node.agent.address, site.service, site.query, ["sensu"]) for node in site.nodes
    ]
    assert [program.run() for program in programs] == ["master", "slave", "slave"]
    found = site.nodes[0].agent.get(f"/v1/agent/service/{site.service}")
    assert found["Tags"] == ["sensu", "master"]
    assert (found["Meta"], found["Weights"]) == ({}, {"Passing": 1, "Warning": 1})
    sessions = len(site.cluster.sessions())
    assert sessions == 4  # one a run, and one for the lock of the master
    assert [program.run() for program in programs] == ["master", "slave", "slave"]
    assert len(site.cluster.sessions()) == sessions + 3


def test_respecting_its_master_costs_nothing(site: Site) -> None:
    leader, node, _ = site.nodes
    for each in (leader, node):
        Predecessor(each.agent.address, site.service, site.query, ["sensu"]).run()
    index = site.cluster.raft_index()
    flags = ["-consul-service-name", site.service, "-consul-query-name", site.query]
    done = predecessor_command(*flags, "-consul-query-tag", "sensu", env=node.env)
    assert done.exit_code == 0, done
    assert f"respects {leader.name}/{leader.service_id}" in done.stdout
    assert site.cluster.wrote_nothing_since(index)


def test_the_command_of_its_name_takes_its_lock(
    consul_servers: ConsulCluster, make_site: Callable[..., Site]
) -> None:
    """Compatible without being told: while the predecessor elects, it does not."""
    site = make_site(consul_servers)
    first, second, _ = site.nodes
    flags = ["-consul-service-name", site.service, "-consul-query-name", site.query]
    assert run_predecessor(second, *flags, "--die-at", "locked") == 9
    waiting = predecessor_command(*flags, env=first.env)
    assert waiting.exit_code == 1, waiting
    assert "master" not in first.tags
    site.cluster.server.api("DELETE", f"/v1/kv/check-{site.query}-{site.service}")
    with site.recorder() as recorder:
        done = None
        for _ in range(5):  # it stands back for a moment after a try in vain
            done = predecessor_command(*flags, env=first.env)
            if done.exit_code == 0:
                break
        assert done is not None
        assert done.exit_code == 0, done
        led_by(recorder, first)
