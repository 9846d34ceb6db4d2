"""Planned changes on real Consul and Redis: switchover, pause, resume, history."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.docs.pages import marked
from tests.integration.e2e.site import PATIENCE, Node, Site
from tests.tools.leadertag import COMMAND, Finished, clean_environment, leadertag
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation, ServiceRecorder


def member(node: Node) -> str:
    """The name of the member on a node."""
    return f"{node.name}/{node.service_id}"


def command(node: Node, verb: str, *words: str) -> Finished:
    """``leadertag VERB`` with the configuration of a node's daemon."""
    return leadertag("--config", str(node.daemon.config), verb, *words)


def status(node: Node) -> dict[str, Any]:
    """What ``status --json`` tells of the one election."""
    (election,) = command(node, "status", "--json").json["elections"]
    return dict(election)


def changes(node: Node) -> list[dict[str, Any]]:
    """What ``history --json`` tells of the one election."""
    (election,) = command(node, "history", "--json").json["elections"]
    return list(election["changes"])


def start(
    site: Site, recorder: ServiceRecorder, *, in_order: bool = False, **settings: Any
) -> Node:
    """Daemons everywhere; the leader's node once all is settled.

    `in_order`: the first node leads. A node with a file `veto` does not want to.
    """
    for node in site.nodes:
        if in_order and node is site.nodes[1]:
            site.wait_for_leader(recorder, settled=False)
        veto = f"test ! -e {node.folder}/veto || {{ echo replication lags; exit 1; }}"
        hooks = [
            node.redis_hook(),
            node.record_hook(),
            {"use": "command", "events": ["before_promote"], "command": ["/bin/sh", "-c", veto]},
        ]
        election = site.election(hooks=hooks, **settings)
        node.start_daemon(node.write_config({"redis": election}))
    leader = site.wait_for_leader(recorder)
    site.wait_for_redis(leader)
    site.wait_settled()
    return leader


def no_leader_passes(seen: Observation) -> bool:
    """Whether nobody would be resolved."""
    return not seen.passing_with_tag("master")


# -- switchover -------------------------------------------------------------------------


def test_to_a_named_member_and_to_any(site: Site) -> None:
    before = site.on_each(Node.registration)
    with site.recorder() as recorder:
        first = start(site, recorder)
        term = status(first)["term"]
        wanted, asking = site.others(first)
        done = command(asking, "switchover", "--to", wanted.name, "--json")
        assert (done.exit_code, done.stderr) == (0, ""), done
        assert done.json.pop("seconds") > 0
        assert done.json | {"seconds": 0, "term": 0} == {
            "election": "redis", "from": member(first), "to": member(wanted),
            "previous_term": term, "term": 0, "seconds": 0,
        }  # fmt: skip
        assert site.wait_for_leader(recorder, not_on=first) is wanted
        site.wait_for_redis(wanted)
        site.wait_settled()
        done = command(first, "switchover")
        assert (done.exit_code, done.stderr) == (0, ""), done
        third = site.wait_for_leader(recorder, not_on=wanted)
        assert done.stdout.startswith(f"redis: {member(third)} leads, term ")
        assert f" in place of {member(wanted)} (" in done.stdout
        site.wait_for_redis(third)
        site.wait_settled()
        recorder.assert_at_most_one("master")
        # Done once: the leader takes the switchover away, and nothing is repeated.
        wait_until(lambda: not notes(site, "plan"), PATIENCE, "the plan is gone")
        assert [line.split()[0] for line in wanted.events].count("promote") == 1
        assert site.on_each(Node.registration) == before
    told = [(change["from"], change["to"]) for change in changes(first)]
    assert told[-2:] == [(member(first), member(wanted)), (member(wanted), member(third))]
    reasons = [change["reason"] for change in changes(first)[-2:]]
    assert reasons[0].startswith(f"switchover to {member(wanted)}, asked for by ")
    assert reasons[1].startswith(f"switchover to {member(third)}, asked for by ")


def notes(site: Site, name: str) -> list[str]:
    """The keys of notes of that name beside the lock, which is there since somebody led."""
    lock = f"leadertag/locks/{site.service}/{site.query}"
    keys = site.cluster.server.api("GET", f"/v1/kv/{lock}", None, {"keys": ""})[0]
    return [key for key in keys if key == f"{lock}/{name}"]


def test_the_candidate_refuses(site: Site) -> None:
    with site.recorder() as recorder:
        leader = start(site, recorder)
        wanted, other = site.others(leader)
        (wanted.folder / "veto").touch()
        done = command(other, "switchover", "--to", member(wanted))
        assert (done.exit_code, done.stdout) == (1, "")
        said = f"leadertag: redis: {member(wanted)} refuses: "
        assert done.error_line.startswith(said)
        assert "replication lags" in done.error_line
        assert done.error_line.endswith(f"; {member(leader)} leads, term {status(leader)['term']}")
        assert site.wait_for_leader(recorder) is leader
        assert not notes(site, "plan")
        # To any: who does not want to is passed over.
        assert command(other, "switchover").exit_code == 0
        assert site.wait_for_leader(recorder, not_on=leader) is other
        recorder.assert_at_most_one("master")
        assert not [line for line in wanted.events if line.startswith("promote")]


def test_the_candidates_daemon_is_gone(site: Site) -> None:
    with site.recorder() as recorder:
        leader = start(site, recorder)
        wanted, other = site.others(leader)
        wanted.daemon.stop()
        done = command(other, "switchover", "--to", wanted.name, "--timeout", "2s", "--json")
        assert (done.exit_code, done.stderr, done.json["exit_code"]) == (1, "", 1)
        assert f"2s: {member(wanted)} has not accepted: leadertag there is" in done.json["error"]
        assert f"{member(leader)} leads, term" in done.json["error"]
        assert not notes(site, "plan")

        config = ["--config", str(other.daemon.config)]
        argv = [*COMMAND, *config, "switchover", "--to", wanted.name]
        with subprocess.Popen(
            argv, env=clean_environment(), stderr=subprocess.PIPE, text=True
        ) as asked:
            wait_until(lambda: "switchover" in status(leader), PATIENCE, "it was asked for")
            assert (
                command(leader, "status")
                .stdout.splitlines()[1]
                .startswith(f"  switchover to {member(wanted)}, asked for by ")
            )
            asked.send_signal(signal.SIGINT)
            assert asked.communicate()[1] == (
                "leadertag: interrupted; no switchover is left behind\n"
            )
        assert asked.returncode == 130
        assert not notes(site, "plan")
        assert site.wait_for_leader(recorder) is leader
        assert leader.events == ["promote " + leader.events[0].split()[1]]


# -- pause ------------------------------------------------------------------------------


def test_in_a_pause_nobody_succeeds(site: Site) -> None:
    with site.recorder() as recorder:
        leader = start(site, recorder)
        other = site.others(leader)[0]
        before, session = status(leader)["term"], site.lock()["session"]
        paused = command(other, "pause", "--reason", "new disk", "--json")
        assert paused.exit_code == 0
        (told,) = paused.json["elections"]
        assert (told["name"], told["paused"], told["reason"]) == ("redis", True, "new disk")
        assert status(other)["paused"] is True
        refused = command(other, "switchover")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "`leadertag resume` first" in refused.error_line

        leader.redis.kill()
        wait_until(lambda: leader.describe()["state"] == "suspended", PATIENCE, "it is suspended")
        recorder.wait_for(no_leader_passes, PATIENCE, "the gate is closed")
        assert site.lock()["session"] == session
        assert command(other, "query", site.query).exit_code == 1

        # Its service comes back: the same leader, the same term.
        leader.redis.start()
        assert site.wait_for_leader(recorder) is leader
        assert (site.lock()["session"], status(leader)["term"]) == (session, before)

        leader.redis.kill()
        recorder.wait_for(no_leader_passes, PATIENCE, "the gate is closed again")
        wait_until(lambda: leader.describe()["state"] == "suspended", PATIENCE, "suspended again")
        assert site.lock()["session"] == session
        assert {i.node for seen in recorder.observations for i in seen.passing_with_tag("master")
                } == {leader.name}  # fmt: skip
        assert command(other, "resume").stdout.startswith("redis: resumed, was paused since ")
        second = site.wait_for_leader(recorder, not_on=leader)
        site.wait_for_redis(second, down=leader)
        recorder.assert_at_most_one("master")
        assert not notes(site, "plan")
    last = changes(second)[-1]
    assert (last["from"], last["to"]) == (member(leader), member(second))
    assert last["term"] > before


def test_a_pause_survives_a_restart_of_everything(site: Site) -> None:
    with site.recorder() as recorder:
        leader = start(site, recorder, on_stop="release")
        assert command(leader, "pause").exit_code == 0
        site.on_each(lambda node: node.daemon.stop())
        assert no_leader_passes(recorder.last)
        site.on_each(lambda node: node.daemon.start())
        waiting = "the election is paused"
        wait_until(
            lambda: all(node.describe().get("reason") == waiting for node in site.nodes),
            PATIENCE, "all know of the pause",
        )  # fmt: skip
        for node in site.nodes:
            told = node.describe()
            assert (told["state"], told["paused"], told["leader"]) == ("watching", True, None)
        assert (status(leader)["paused"], status(leader)["leader"]) == (True, None)
        assert site.lock()["session"] == ""
        assert command(leader, "resume").exit_code == 0
        second = site.wait_for_leader(recorder)
        site.wait_for_redis(second)
        recorder.assert_at_most_one("master")


# -- one-shot ---------------------------------------------------------------------------


@contextmanager
def checked_every_second(site: Site) -> Iterator[None]:
    """Each node's ``leadertag check`` is run again and again, as its agent would."""
    stop = threading.Event()

    def keep_checking(node: Node) -> None:
        while not stop.wait(1.0):
            site.check(node, "--interval", "1s", "--timeout", "2s")

    threads = [threading.Thread(target=keep_checking, args=[node]) for node in site.nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_with_one_shot_checks(site: Site) -> None:
    options = ["--service", site.service, "--query", site.query, "--tag", "sensu"]
    with site.recorder() as recorder, checked_every_second(site):
        first = site.wait_for_leader(recorder)
        wanted, asking = site.others(first)
        done = leadertag("switchover", *options, "--to", wanted.name, env=asking.env)
        assert (done.exit_code, done.stderr) == (0, ""), done
        assert site.wait_for_leader(recorder, not_on=first) is wanted

        assert leadertag("pause", *options, env=asking.env).exit_code == 0
        wanted.redis.kill()
        recorder.wait_for(no_leader_passes, PATIENCE, "its check is critical")
        kept = site.check(wanted, "--interval", "1s", "--timeout", "2s")
        assert kept.exit_code == 1, kept
        assert site.lock()["session"], (kept, site.lock())
        assert leadertag("resume", *options, env=asking.env).exit_code == 0
        second = site.wait_for_leader(recorder, not_on=wanted, settled=False)
        recorder.assert_at_most_one("master")
        told = leadertag("history", *options, "--json", env=asking.env).json
    (election,) = told["elections"]
    pairs = [(change["from"], change["to"]) for change in election["changes"]]
    assert pairs[-2:] == [(member(first), member(wanted)), (member(wanted), member(second))]


# -- what the page shows ----------------------------------------------------------------

PAGE = "docs/operations.md"
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\d+\.\d\ds\b"), "SECONDS"),
    (re.compile(r"\d+\.\d+\.\d+\.\d+:6379"), "ADDRESS"),
    (re.compile(r"(?<=term )\d+|^ *\d+(?= )", re.MULTILINE), "TERM"),
    (re.compile(r"/\S+/leadertag\.toml"), "FILE"),
    (re.compile(r"(?<= by )[^\s@]+@[\w.-]+"), "WHO"),
)


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return [" ".join(line.split()) for line in text.splitlines()]


def assert_session(site: Site, node: Node, name: str) -> None:
    """Type what the page's session shows, and see the same."""
    for part in marked(PAGE, f"session: {name}").text.split("$ ")[1:]:
        typed, _, shown = part.partition("\n")
        done = command(node, *shlex.split(typed)[1:])
        printed = done.output.replace(site.query, "redis-leader").replace(site.service, "redis")
        assert normal(printed) == normal(shown), f"{typed}: {printed}"


def test_the_sessions_of_the_page(site: Site) -> None:
    n1, n2, n3 = site.nodes
    with site.recorder() as recorder:
        assert start(site, recorder, in_order=True) is n1
        assert_session(site, n3, "switchover")
        assert site.wait_for_leader(recorder, not_on=n1) is n2
        site.wait_settled()
        (n3.folder / "veto").touch()
        assert_session(site, n1, "refused")
        n3.daemon.stop()
        assert_session(site, n1, "silent")
        assert_session(site, n1, "pause")
        n2.redis.kill()
        assert site.wait_for_leader(recorder, not_on=n2, settled=False) is n1
        site.wait_settled([n1])
        wait_until(lambda: changes(n1)[-1]["to"] == member(n1), PATIENCE, "it is written down")
        assert_session(site, n1, "history")
