"""``status``: the JSON, the text, and when it is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leadertag import backends
from leadertag.errors import Ambiguous, BackendUnavailable, NotRegistered
from leadertag.model import Check, Health, Instance, LockView, Phase, Record
from leadertag.plan import Plan, Switchover
from tests.unit.cli.conftest import Cli

RECORD = Record(
    "n3/redis", "redis", "n3", "10.0.0.3", 6379, Phase.LEADING, term=7, since="2026-01-31T10:00:00Z"
)
HELD = LockView("redis/q", 9, "session", RECORD)


def instance(node: str, *tags: str, health: Health = Health.PASSING) -> Instance:
    checks = (Check("c", health),)
    return Instance("redis", node, "redis", f"10.0.0.{node[1:]}", 6379, tags, checks)


N1 = instance("n1", "sensu", "slave")
N2 = instance("n2", "sensu", "slave")
N3 = instance("n3", "sensu", "master")


class Backend:
    """All three providers; what they answer is set by the test."""

    def __init__(self) -> None:
        self.view = HELD
        self.all: tuple[Instance, ...] = (N1, N2, N3)
        self.own: Instance | Exception = N1
        self.answers: tuple[Instance, ...] | Exception = (N3,)
        self.closed = False
        self.lock = self.registry = self.query = self

    def read(self, key: str) -> LockView:
        assert key == "redis/q"
        return self.view

    def members(self, service: str) -> tuple[Instance, ...]:
        assert service == "redis"
        return self.all

    def local(self, service: str, instance_id: str) -> Instance:
        assert (service, instance_id) == ("redis", "")
        if isinstance(self.own, Exception):
            raise self.own
        return self.own

    def resolve(self, name: str) -> tuple[Instance, ...]:
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    made = Backend()
    monkeypatch.setattr(backends, "open_providers", lambda *_, **__: made)
    return made


WORDS = ("status", "--service", "redis", "--query", "q")


def test_the_json_is_the_documented_one(cli: Cli, backend: Backend) -> None:
    result = cli(*WORDS, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json == {
        "elections": [
            {
                "name": "q", "service": "redis", "query": "q", "term": 7, "phase": "leading",
                "paused": False, "since": "2026-01-31T10:00:00Z",
                "leader": {"id": "redis", "node": "n3", "address": "10.0.0.3", "port": 6379},
                "members": [
                    {"id": "redis", "node": "n3", "address": "10.0.0.3", "port": 6379,
                     "role": "leader", "health": "passing", "tags": ["sensu", "master"]},
                    {"id": "redis", "node": "n1", "address": "10.0.0.1", "port": 6379,
                     "role": "follower", "health": "passing", "tags": ["sensu", "slave"]},
                    {"id": "redis", "node": "n2", "address": "10.0.0.2", "port": 6379,
                     "role": "follower", "health": "passing", "tags": ["sensu", "slave"]},
                ],
            }
        ]
    }  # fmt: skip
    assert backend.closed


def test_the_text(cli: Cli, backend: Backend) -> None:
    backend.all = (N1, instance("n22", health=Health.CRITICAL), N3)
    result = cli(*WORDS)
    assert result.code == 0
    assert result.out.splitlines() == [
        "q: n3/redis leads, term 7, since 2026-01-31T10:00:00Z (service redis, query q)",
        "  ROLE      NODE  ID     ADDRESS         HEALTH    TAGS",
        "  leader    n3    redis  10.0.0.3:6379   passing   sensu,master",
        "  follower  n1    redis  10.0.0.1:6379   passing   sensu,slave",
        "  unknown   n22   redis  10.0.0.22:6379  critical  -",
    ]


# -- what is planned ---------------------------------------------------------------------------

ASKED = Switchover("1234", 7, "n2/redis", 30.0, "ann@n1")
PLANNED: dict[str, tuple[Plan, list[str]]] = {
    "paused": (
        Plan(True, "ann@n1", "2026-01-31T11:00:00Z", "new disk"),
        ["  paused since 2026-01-31T11:00:00Z by ann@n1: new disk"],
    ),
    "paused without a word": (Plan(True), ["  paused"]),
    "open": (
        Plan(switchover=ASKED),
        ["  switchover to n2/redis, asked for by ann@n1: nobody has accepted yet"],
    ),
    "accepted": (
        Plan(switchover=replace(ASKED, to="", candidate="n1/redis")),
        ["  switchover, asked for by ann@n1: n1/redis has accepted"],
    ),
    "refused": (
        Plan(switchover=replace(ASKED, refused="no\x1b")),
        ["  switchover to n2/redis, asked for by ann@n1: refused: no\\x1b"],
    ),
    "of the past": (Plan(switchover=replace(ASKED, term=6)), []),
    "not in a pause": (Plan(True, switchover=ASKED), ["  paused"]),
    "foreign": (
        Plan(foreign=True), ["  note: what stands in the plan of 'redis/q' is not leadertag's"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANNED)
def test_what_is_planned(case: str, cli: Cli, backend: Backend) -> None:
    plan, lines = PLANNED[case]
    backend.view = replace(HELD, plan=replace(plan, index=3))
    result = cli(*WORDS)
    assert result.code == 0
    assert result.out.splitlines()[1:-4] == lines
    (election,) = cli(*WORDS, "--json").json["elections"]
    assert election["paused"] is plan.paused
    assert ("switchover" in election) == (case in ("open", "accepted", "refused"))
    assert "doubt" not in election


def test_a_switchover_in_json(cli: Cli, backend: Backend) -> None:
    backend.view = replace(HELD, plan=Plan(switchover=ASKED, index=3))
    (election,) = cli(*WORDS, "--json").json["elections"]
    assert election["switchover"] == {
        "id": "1234", "term": 7, "to": "n2/redis", "by": "ann@n1", "timeout": 30.0,
        "candidate": "", "refused": "",
    }  # fmt: skip


def test_a_switchover_stands_while_nobody_leads(cli: Cli, backend: Backend) -> None:
    plan = Plan(switchover=replace(ASKED, candidate="n2/redis"), index=3)
    backend.view = replace(HELD, holder="", record=RELEASED, plan=plan)
    lines = cli(*WORDS).out.splitlines()
    assert lines[1] == "  switchover to n2/redis, asked for by ann@n1: n2/redis has accepted"


ELECTED = replace(RECORD, phase=Phase.ELECTED)
RELEASED = replace(RECORD, phase=Phase.RELEASED)
# What stands in the lock, the phase in the JSON, and the line.
VACANT = {
    "no key": (LockView("redis/q"), "free", "q: no leader: lock free (service"),
    "freed": (replace(HELD, holder=""), "free", "q: no leader: lock free, term 7"),
    "released": (
        replace(HELD, holder="", record=RELEASED), "released", "q: no leader: lock free, term 7",
    ),
    "elected": (
        replace(HELD, record=ELECTED), "elected",
        "q: no leader: lock held by n3/redis (elected), term 7",
    ),
    "stuck": (
        replace(HELD, record=replace(RECORD, phase=Phase.STUCK)), "stuck",
        "q: no leader: lock held by n3/redis (stuck), term 7",
    ),
    "just taken": (
        replace(HELD, record=replace(ELECTED, term=0)), "elected",
        "q: no leader: the lock was just taken",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VACANT)
def test_no_leader(case: str, cli: Cli, backend: Backend) -> None:
    backend.view, phase, line = VACANT[case]
    result = cli(*WORDS)
    assert result.code == 1
    assert result.out.startswith(line)
    (election,) = cli(*WORDS, "--json").json["elections"]
    assert (election["phase"], election["leader"]) == (phase, None)
    assert "doubt" not in election


UNTAGGED = instance("n3", "sensu", "slave")
UNSETTLED = {
    "no tag yet": ((N1, N2, UNTAGGED), "n3/redis leads but does not carry the tag 'master' yet"),
    "gone": ((N1, N2), "n3/redis leads but does not carry the tag 'master' yet"),
    "failing": (
        (N1, instance("n3", "master", health=Health.WARNING)), "n3/redis leads but is warning",
    ),
    "two": ((N1, instance("n2", "Master"), N3), "n2/redis passes with the tag 'master' as well"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSETTLED)
def test_a_leader_that_is_not_all_of_one(case: str, cli: Cli, backend: Backend) -> None:
    backend.all, line = UNSETTLED[case]
    result = cli(*WORDS)
    assert result.code == 1
    assert result.out.splitlines()[1] == f"  {line}"


def test_a_failing_second_tag_is_no_harm(cli: Cli, backend: Backend) -> None:
    backend.all = (N1, instance("n2", "master", health=Health.CRITICAL), N3)
    assert cli(*WORDS).code == 0


def test_tags_of_both_roles_say_nothing(cli: Cli, backend: Backend) -> None:
    backend.all = (instance("n1", "master", "slave"), instance("n2"), N3)
    (election,) = cli(*WORDS, "--json").json["elections"]
    assert [member["role"] for member in election["members"]] == ["leader", "unknown", "unknown"]


DOUBT: dict[str, tuple[dict[str, Any], str]] = {
    "own instance missing": (
        {"all": (N2, N3)}, "the list of members lacks this node's own instance n1/redis",
    ),
    "nobody": (
        {"all": (), "own": NotRegistered("x")}, "no member of 'redis' can be seen: none is",
    ),
    "foreign": (
        {"view": LockView("redis/q", 9, foreign=True)},
        "the lock 'redis/q' holds a value that is not leadertag's",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBT)
def test_doubt(case: str, cli: Cli, backend: Backend) -> None:
    answers, reason = DOUBT[case]
    vars(backend).update(answers)
    result = cli(*WORDS)
    assert result.code == 1
    assert result.out.splitlines()[1].startswith(f"  in doubt: {reason}")
    (election,) = cli(*WORDS, "--json").json["elections"]
    assert election["doubt"].startswith(reason)


@pytest.mark.parametrize("own", [NotRegistered("x"), Ambiguous("x")])
def test_a_node_without_one_instance_of_its_own_is_no_doubt(
    own: Exception, cli: Cli, backend: Backend
) -> None:
    backend.own = own
    assert cli(*WORDS).code == 0


def test_what_a_registry_says_cannot_steer_a_terminal(cli: Cli, backend: Backend) -> None:
    backend.all = (N1, instance("n2", "\x1b[31m", "\u2028é"), N3)
    out = cli(*WORDS).out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\\x1b[31m,\\u2028\\xe9" in out


def test_an_ipv6_address(cli: Cli, backend: Backend) -> None:
    backend.all = (N1, replace(N3, address="fd00::3"))
    assert "[fd00::3]:6379" in cli(*WORDS).out


def test_the_backend_in_trouble(cli: Cli, backend: Backend) -> None:
    backend.own = BackendUnavailable("no answer")
    result = cli(*WORDS)
    assert (result.code, result.out, result.err) == (1, "", "leadertag: no answer\n")
    assert backend.closed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no configuration: there is no "),
        (("--query", "q"), "--query without --service"),
        (("redis", "--service", "redis"), "--service and the election 'redis' exclude each other"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], says: str, cli: Cli, backend: Backend) -> None:
    result = cli("status", *words)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert says in result.err


def test_elections_of_the_file(cli: Cli, backend: Backend, config: Any) -> None:
    path = config('[elections.b]\nservice = "redis"\nquery = "q"\n[elections.a]\nservice = "web"\n')
    result = cli("status", "b", "b", "--config", path, "--json")
    assert [election["name"] for election in result.json["elections"]] == ["b"]
    result = cli("status", "c", "--config", path)
    assert f"{path}: there is no election 'c' (there are b, a)" in result.err


# -- query -----------------------------------------------------------------------------------


def test_a_query_that_answers(cli: Cli, backend: Backend) -> None:
    backend.answers = (N3, replace(N1, address="fd00::1"))
    result = cli("query", "q")
    assert (result.code, result.out, result.err) == (0, "10.0.0.3:6379\n[fd00::1]:6379\n", "")
    assert cli("query", "q", "--json").json == {
        "query": "q",
        "instances": [
            {"id": "redis", "node": "n3", "address": "10.0.0.3", "port": 6379},
            {"id": "redis", "node": "n1", "address": "fd00::1", "port": 6379},
        ],
    }
    assert backend.closed


def test_a_query_that_answers_with_nobody(cli: Cli, backend: Backend) -> None:
    backend.answers = ()
    result = cli("query", "q")
    assert (result.code, result.out) == (1, "")
    assert result.err == "leadertag: the query 'q' answers with nobody\n"
    result = cli("query", "q", "--json")
    assert (result.code, result.json) == (1, {"query": "q", "instances": []})


def test_a_query_that_does_not_exist(cli: Cli, backend: Backend) -> None:
    backend.answers = NotRegistered("no query 'q' at x")
    result = cli("query", "q")
    assert (result.code, result.err) == (1, "leadertag: no query 'q' at x\n")
