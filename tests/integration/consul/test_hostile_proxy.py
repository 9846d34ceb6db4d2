"""Elections of real daemons behind a proxy that cuts, delays, repeats, forges and forgets.

The daemons run through the whole file, as they would through a bad day: each test puts one
rule between them and their agents, fails the leader's service under it, and ends the rule.
What counts is what the agents and the cluster saw, not what the daemons were told.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leadertag.daemon.control import ask
from leadertag.errors import BackendUnavailable
from tests.integration.consul import proxy as px
from tests.integration.consul.proxy import Proxy, Rule
from tests.tools.consul import HTTP_PORT, ConsulAgent, ConsulCluster
from tests.tools.leadertag import Daemon, to_toml
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation, ServiceRecorder

LEASE = "1600ms"
CHANCE = 1.0  # seconds for what a rule may allow or not: a rule stands at least that long
PATIENCE = 40.0  # seconds for anything that is waited for: a bound for what hangs
ROLES = {"master", "slave"}
SERVICE = "redis-behind-a-proxy"
CHECK = f"own:{SERVICE}"


@dataclass
class Member:
    """One node: its agent, the proxy before it, its service and daemon."""

    agent: ConsulAgent
    folder: Path
    proxy: Proxy = field(init=False)
    daemon: Daemon = field(init=False)

    def start(self) -> None:
        """Register the service, with all that a careless writer loses; start the daemon."""
        self.proxy = Proxy(self.agent.ip, HTTP_PORT)
        self.agent.register_service({
            "Name": SERVICE, "ID": SERVICE, "Port": 6379, "Tags": ["sensu"],
            "Meta": {"rack": self.agent.node}, "Weights": {"Passing": 3, "Warning": 1},
            "TaggedAddresses": {"wan": {"Address": "198.51.100.7", "Port": 16379}},
            "Checks": [{"CheckID": CHECK, "Name": "own", "TTL": "1h", "Status": "passing"}],
        })  # fmt: skip
        path = self.folder / f"{self.agent.node}.toml"
        path.write_text(to_toml(self.settings()))
        self.daemon = Daemon(path, name=f"leadertag on {self.agent.node}")
        self.daemon.start()

    def settings(self) -> dict[str, Any]:
        """Its configuration: the agent is known by the proxy's address only."""
        line = f'echo "{self.agent.node} $LEADERTAG_EVENT" >> {self.folder / "events"}'
        hook = {
            "use": "command", "command": ["/bin/sh", "-c", line], "timeout": {"demote": "500ms"},
            "events": ["promote", "demote"],
        }  # fmt: skip
        election = {"service": SERVICE, "query": f"q-{SERVICE}", "lease": LEASE, "hooks": [hook]}
        return {
            "backend": "consul",
            "state_dir": str(self.folder / self.agent.node),
            "backends": {"consul": {"address": self.proxy.address, "timeout": "500ms"}},
            "elections": {"redis": {**election, "stand_back": "200ms"}},
        }

    def close(self) -> None:
        """End daemon and proxy."""
        self.daemon.kill_all()
        self.proxy.close()

    def set_health(self, status: str) -> None:
        """Tell the agent itself, past the proxy."""
        body = {"Status": status}
        self.agent.api("PUT", f"/v1/agent/check/update/{CHECK}", body)

    def registration(self) -> dict[str, Any]:
        """What must not change: the registration without role tags, and its own check."""
        found = self.agent.get(f"/v1/agent/service/{SERVICE}")
        check = self.agent.get("/v1/agent/checks")[CHECK]
        return {
            **{key: value for key, value in found.items() if key not in ("ContentHash", "Tags")},
            "Tags": [tag for tag in found["Tags"] if tag not in ROLES],
            "Check": (check["Name"], check["Type"], check["ServiceID"]),
        }

    def settled(self) -> bool:
        """Whether its daemon says that all is as it should be."""
        for socket in (self.folder / self.agent.node).glob("*.sock"):
            with suppress(BackendUnavailable):
                told = ask(str(socket), {"verb": "status"})
                return all(one["settled"] for one in told["elections"])
        return False


class Election:
    """The members on the shared cluster, for all tests of this file."""

    def __init__(self, cluster: ConsulCluster, folder: Path) -> None:
        self.cluster = cluster
        self.members = [Member(agent, folder) for agent in cluster.agents[:2]]
        self.events_file = folder / "events"
        self._logged = {}  # type: dict[str, int]

    def start(self) -> None:
        """Start everything; returns when there is a leader and a follower."""
        for member in self.members:
            member.start()
        self.before = [member.registration() for member in self.members]
        with self.recorder() as recorder:
            self.wait_settled(recorder)

    def close(self) -> None:
        """End everything, and leave the shared cluster as it was."""
        for member in self.members:
            member.close()
        server = self.cluster.server
        for query in server.get("/v1/query"):
            server.api("DELETE", f"/v1/query/{query['ID']}")
        server.api("DELETE", "/v1/kv/leadertag/", None, {"recurse": "true"})
        self.cluster.clear()

    def recorder(self) -> ServiceRecorder:
        """Sees what any client of the server could see, past the proxies."""
        return self.cluster.recorder(SERVICE)

    def wait_settled(self, recorder: ServiceRecorder) -> Member:
        """Wait for one leader that the others follow, and that says so; returns it."""

        def led(seen: Observation) -> bool:
            leaders = seen.passing_with_tag("master")
            tags = [ROLES & set(one.tags) for one in seen.instances if one not in leaders]
            passing = all(one.passing for one in seen.instances)
            return len(leaders) == 1 and passing and tags == [{"slave"}] * len(tags)

        recorder.wait_for(led, PATIENCE, "one leader, the other follows")
        wait_until(lambda: all(m.settled() for m in self.members), PATIENCE, "both are settled")
        seen = recorder.wait_for(led, PATIENCE, "one leader, the other follows")
        node = seen.passing_with_tag("master")[0].node
        return next(member for member in self.members if member.agent.node == node)

    def events(self) -> list[str]:
        """The hooks' own record: which node was promoted or demoted, in the order of the ends."""
        return self.events_file.read_text().splitlines()

    def acting(self) -> list[set[str]]:
        """Who acted after each entry of the hooks' own record."""
        acting: set[str] = set()
        found = []
        for line in self.events():
            node, event = line.split()
            acting = acting | {node} if event == "promote" else acting - {node}
            found.append(acting)
        return found

    def new_lines(self) -> list[str]:
        """What the daemons have logged since the last call."""
        lines: list[str] = []
        for member in self.members:
            log = member.daemon.log()
            lines += log[self._logged.get(member.agent.node, 0) :].splitlines()
            self._logged[member.agent.node] = len(log)
        return lines


_ELECTION = pytest.StashKey[Election]()


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def election(
    request: pytest.FixtureRequest, shared_consul: ConsulCluster, stack: ExitStack
) -> Iterator[Election]:
    """The running election; made anew when a test before this one has failed."""
    module = request.node.getparent(pytest.Module)
    if _ELECTION not in module.stash:
        folder = Path(tempfile.mkdtemp(prefix="lt-"))  # short: a socket's path has to fit
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Election(shared_consul, folder)
        stack.callback(made.close)
        made.start()
        module.stash[_ELECTION] = made
    failed = request.session.testsfailed
    yield module.stash[_ELECTION]
    if request.session.testsfailed != failed:
        del module.stash[_ELECTION]
        stack.close()


HTML = b"<html><body>Please log in</body></html>"
BLOCKING = r"GET /v1/(kv|health|catalog)/.*"
LISTS = r"GET /v1/(health/service|catalog/node)/.*"
WRITES = r"PUT .*"
TXN = r"PUT /v1/txn"

RULES: dict[str, Rule] = {
    "server errors": Rule(px.in_turn(
        px.answer(500, b"No cluster leader"), px.answer(503, HTML, "text/html"),
        px.answer(429, b"slow down"), px.answer(500, b"\xff\0\x1b[31m"),
    )),
    "client errors": Rule(px.in_turn(
        px.answer(404, HTML, "text/html"), px.answer(404, b"404 page not found"),
        px.answer(400, b"bad request"), px.answer(302, b"", Location="/login"),
        px.answer(409, b""), px.answer(401, b""),
    )),
    "denied writes": Rule(px.answer(403, b"Permission denied"), WRITES),
    "refused transactions": Rule(px.in_turn(
        px.answer(400, b"bad request"), px.answer(409, b'{"Results": null, "Errors": null}'),
        px.answer(409, b'{"Errors": [{"OpIndex": 63, "What": "?"}]}'), px.answer(200, b"{}"),
    ), TXN),
    "pages": Rule(px.answer(200, HTML, "text/html")),
    "nothing": Rule(px.in_turn(*(
        px.answer(200, body, "application/json", X_Consul_Index="7")
        for body in (b"", b"null", b"[]", b"{}", b"true")
    ))),
    "other objects": Rule(px.in_turn(*(
        px.answer(200, body, "application/json", X_Consul_Index="7")
        for body in (b'{"error": {"code": 7}}', b"[1]", b'[{"Node": 3}]', b"[" * 50_000)
    ))),
    "cut body": Rule(px.cut),
    "length too long": Rule(px.too_long),
    "length too short": Rule(px.too_short),
    "trickled body": Rule(px.trickle_body),
    "trickled headers": Rule(px.trickle_headers),
    "delayed": Rule(px.delayed(0.25)),
    "repeated index": Rule(px.indexed(lambda true, asked: str(asked or true)), BLOCKING),
    "backward index": Rule(px.indexed(lambda true, asked: str(max(1, (asked or true) - 1))),
                           BLOCKING),
    "no index": Rule(px.indexed(lambda true, asked: None), BLOCKING),
    "odd index": Rule(px.indexed(lambda true, asked: "9" * 30), BLOCKING),
    "stale members": Rule(px.stale, r"GET /v1/health/service/.*"),
    "stale node": Rule(px.stale, r"GET /v1/(catalog|health)/node/.*"),
    "stale locks": Rule(px.stale, r"GET /v1/kv/.*"),
    "lost answers": Rule(px.lose, WRITES),
    "lost transactions": Rule(px.lose, TXN),
    "lost requests": Rule(px.refuse, WRITES),
    "twice": Rule(px.twice, WRITES),
}  # fmt: skip


BLIND = {"stale node", "no index", "odd index"}
"""Under these a leader cannot read how its service is, while it is confirmed: it leads on."""


def bad_day(
    election: Election, on_leader: Rule | None, on_follower: Rule | None, *,
    blind: bool = False, vacant: bool = False,
) -> None:  # fmt: skip
    """Have the leader's service fail under the rules, end them, and look at what became of it.

    ``blind``: under the rule the leader cannot see that its service fails; ``vacant``: and
    nobody else may be published.
    """
    with election.recorder() as recorder:
        leader = election.wait_settled(recorder)
        election.new_lines()
        already = len(election.events())
        with ExitStack() as stack:
            rulings = [
                stack.enter_context(member.proxy.ruled(rule))
                for member in election.members
                if (rule := on_leader if member is leader else on_follower) is not None
            ]
            if vacant:  # else it might be over before the follower has read anything
                wait_until(lambda: rulings[0].hits > 1, PATIENCE, "the rule is felt")
            leader.set_health("critical")
            wait_until(lambda: any(r.hits for r in rulings), PATIENCE, "the rule is felt")
            name = leader.agent.node
            if not blind:
                # However little it learns: a leader that nobody confirms gives up in time.
                demoted = f"{name} demote"
                wait_until(lambda: demoted in election.events()[already:], PATIENCE, "it gives up")
            others = {f"{m.agent.node} promote" for m in election.members if m is not leader}
            give(lambda: others & set(election.events()[already:]), "a successor its chance")
            assert not (vacant and recorder.last.passing_with_tag("master"))
        leader.set_health("passing")
        election.wait_settled(recorder)
        recorder.assert_at_most_one("master")
    assert [member.registration() for member in election.members] == election.before
    assert all(len(acting) <= 1 for acting in election.acting()), election.events()
    strange = [line for line in election.new_lines() if is_strange(line)]
    assert not strange, "\n".join(strange)


def give(chance: Callable[[], object], what: str) -> None:
    """Wait a little for what a rule may allow or not."""
    with suppress(AssertionError):
        wait_until(chance, CHANCE, what)


def is_strange(line: str) -> bool:
    """Whether a log line tells of what nobody had foreseen."""
    return any(word in line for word in ("Traceback", "unforeseen", "internal error", " ERROR "))


@pytest.mark.parametrize("name", sorted(RULES))
def test_everybody_is_behind_it(election: Election, name: str) -> None:
    rule = RULES[name]
    bad_day(election, rule, rule, blind=name in BLIND)


@pytest.mark.parametrize(
    "name", ["server errors", "delayed", "lost answers", "stale locks", "twice"]
)
def test_the_leader_alone_is_behind_it(election: Election, name: str) -> None:
    bad_day(election, RULES[name], None)


@pytest.mark.parametrize(
    "name", ["backward index", "lost transactions", "stale locks", "stale members", "twice"]
)
def test_the_successor_alone_is_behind_it(election: Election, name: str) -> None:
    bad_day(election, None, RULES[name])


LACKING = {
    "the leader's": lambda me, other: other,
    "its own": lambda me, other: me,
}


@pytest.mark.parametrize("whose", sorted(LACKING))
def test_lists_that_lack_an_instance(election: Election, whose: str) -> None:
    """I7: a list without the reader's own instance is in doubt; nobody leads on it."""
    nodes = [member.agent.node for member in election.members]
    rules = {
        node: Rule(px.without_node(LACKING[whose](node, other)), LISTS)
        for node, other in (nodes, reversed(nodes))
    }
    with election.recorder() as recorder:
        leader = election.wait_settled(recorder)
        (follower,) = (member for member in election.members if member is not leader)
    bad_day(election, None, rules[follower.agent.node], vacant=whose == "its own")
