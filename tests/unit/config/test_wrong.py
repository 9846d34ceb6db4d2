"""Wrong configurations: each is refused in one line that says where, what, and what is right."""

from __future__ import annotations

import pytest

from leadertag.errors import ConfigError
from tests.unit.config.conftest import Load

ELECTION = '[elections.redis]\nservice = "redis"\n'
HOOK = ELECTION + '[[elections.redis.hooks]]\nuse = "command"\n'
INSTANCE = ELECTION + '[elections.redis.instance]\naddress = "10.0.0.1"\nport = 1\n'


def other(name: str, text: str) -> str:
    return f'[elections.a]\nservice = "s"\n{text}\n[elections.b]\n{name}\n'


# Each: what stands in the file, and all that the message has to say, in order.
WRONG: dict[str, tuple[str, list[str]]] = {
    "unknown top key": ('backnd = "x"', ["toml: unknown key 'backnd'", "mean 'backend'"]),
    "unknown top table": ("[election.x]\n", ["unknown key 'election'", "mean 'elections'"]),
    "unknown election key": (
        ELECTION + 'leese = "3s"',
        ["toml: elections.redis: unknown key 'leese'", "mean 'lease'"],
    ),
    "unknown instance key": (INSTANCE + "prt = 1", ["elections.redis.instance", "mean 'port'"]),
    "unknown check key": (
        INSTANCE + 'check = { tcp = "a:1", intervall = "1s" }',
        ["elections.redis.instance.check", "mean 'interval'"],
    ),
    "unknown query option": (
        ELECTION + 'query = "q"\nquery_options = { nearr = "x" }',
        ["elections.redis.query_options", "mean 'near'"],
    ),
    "elections no table": ('elections = "x"', ["elections must be a table"]),
    "election no table": ('[elections]\nredis = "x"', ["elections: redis must be a table"]),
    "backends no table": ('backends = "x"', ["backends must be a table"]),
    "backend no table": ('[backends]\nconsul = "x"', ["backends: consul must be a table"]),
    "backend of wrong type": ("backend = 1", ["backend must be a string"]),
    "backend empty": ('backend = ""', ["backend must not be empty"]),
    "kind with a slash": ('lock = "a/b"', ["lock = 'a/b' must not contain"]),
    "service missing": ("[elections.redis]\n", ["elections.redis: service is missing"]),
    "service empty": ('[elections.r]\nservice = ""', ["elections.r: service must not be empty"]),
    "service of wrong type": (
        "[elections.r]\nservice = 1",
        ["service must be a string, not a num"],
    ),
    "service with a space": ('[elections.r]\nservice = "a b"', ["'a b' must not contain spaces"]),
    "service with a control character": ('[elections.r]\nservice = "a\\nb"', ["must not contain"]),
    "service of dots": ('[elections.r]\nservice = ".."', ["'..' is no name"]),
    "service too long": (f'[elections.r]\nservice = "{"x" * 129}"', ["longer than 128"]),
    "election with a slash": ('[elections."a/b"]\nservice = "s"', ["the election's name = 'a/b'"]),
    "election without a name": ('[elections.""]\nservice = "s"', ["name must not be empty"]),
    "query with a slash": (ELECTION + 'query = "a/b"', ["query = 'a/b' must not contain"]),
    "query empty": (ELECTION + 'query = ""', ["query must not be empty"]),
    "service_id empty": (ELECTION + 'service_id = ""', ["service_id must not be empty"]),
    "lease no duration": (ELECTION + 'lease = "3"', ["lease = '3' is no duration", "500ms"]),
    "lease a number": (ELECTION + "lease = 3", ["lease must be a duration like 15s"]),
    "lease of nothing": (ELECTION + 'lease = "0s"', ["lease must be longer than 0s"]),
    "lease of ages": (ELECTION + 'lease = "25h"', ["not longer than 24h"]),
    "lease without end": (ELECTION + f'lease = "{"9" * 400}s"', ["not longer than 24h"]),
    "stand_back of nothing": (ELECTION + 'stand_back = "0s"', ["stand_back must be longer"]),
    "on_stop": (ELECTION + 'on_stop = "kep"', ["on_stop = 'kep' is none of", "'keep'"]),
    "on_backend_loss": (ELECTION + 'on_backend_loss = "x"', ["is none of 'demote', 'hold'"]),
    "compat": (ELECTION + 'compat = "x"', ["compat = 'x'", "'consul-master-election-tagger'"]),
    "compat without query": (
        ELECTION + 'compat = "consul-master-election-tagger"',
        ["compat needs query"],
    ),
    "compat with other tags": (
        ELECTION + 'query = "q"\ncompat = "consul-master-election-tagger"\nleader_tag = "x"',
        ["compat needs leader_tag = 'master'"],
    ),
    "tags no list": (ELECTION + 'tags = "sensu"', ["tags must be a list of strings"]),
    "tags of numbers": (ELECTION + "tags = [1]", ["tags must be a list of strings"]),
    "an empty tag": (ELECTION + 'tags = [" "]', ["tags: a tag must not be empty"]),
    "a tag with a control character": (ELECTION + 'tags = ["a\\u0007"]', ["control characters"]),
    "leader tag among tags": (ELECTION + 'tags = ["Master"]', ["contains the leader tag 'Master'"]),
    "follower tag among tags": (ELECTION + 'tags = ["slave"]', ["the query could never answer"]),
    "not the leader among tags": (ELECTION + 'tags = ["!master"]', ["could never answer"]),
    "one tag for both": (
        ELECTION + 'leader_tag = "slave"',
        ["leader_tag and follower_tag are both"],
    ),
    "one tag but for case": (ELECTION + 'leader_tag = "Slave"', ["upper and lower case"]),
    "empty leader tag": (ELECTION + 'leader_tag = ""', ["leader_tag: a tag must not be empty"]),
    "negated leader tag": (ELECTION + 'leader_tag = "!x"', ["would read ! as 'not'"]),
    "query_options without query": (
        ELECTION + 'query_options = { near = "x" }',
        ["query_options without query"],
    ),
    "dns_ttl": (
        ELECTION + 'query = "q"\nquery_options = { dns_ttl = "x" }',
        ["dns_ttl = 'x' is no duration"],
    ),
    "failover_nearest": (
        ELECTION + 'query = "q"\nquery_options = { failover_nearest = -1 }',
        ["failover_nearest = -1 is not within 0 and 1000"],
    ),
    "hooks no list": (ELECTION + 'hooks = "x"', ["hooks must be an array of tables"]),
    "hook no table": (ELECTION + "hooks = [1]", ["hooks[0]: must be a table"]),
    "hook without use": (
        ELECTION + "[[elections.redis.hooks]]\n",
        ["elections.redis.hooks[0]: use is missing"],
    ),
    "unknown event": (HOOK + 'events = ["promot"]', ["no event 'promot'", "mean 'promote'"]),
    "no event at all": (HOOK + "events = []", ["events is empty"]),
    "timeout no duration": (HOOK + 'timeout = "x"', ["hooks[0]: timeout = 'x' is no duration"]),
    "timeout a number": (HOOK + "timeout = 3", ["timeout must be a duration", "table by event"]),
    "timeout of nothing": (HOOK + 'timeout = "0s"', ["timeout must be longer than 0s"]),
    "timeout of no event": (HOOK + 'timeout = { demot = "1s" }', ["'demot'", "mean 'demote'"]),
    "timeout of an event": (HOOK + "timeout = { demote = 1 }", ["timeout.demote must be a dur"]),
    "instance without address": (
        ELECTION + "instance = { port = 1 }",
        ["elections.redis.instance: address is missing"],
    ),
    "instance with an empty address": (
        ELECTION + 'instance = { address = "", port = 1 }',
        ["address = '' is no address"],
    ),
    "instance without port": (ELECTION + 'instance = { address = "a" }', ["port is missing"]),
    "port too high": (
        ELECTION + 'instance = { address = "a", port = 65536 }',
        ["port = 65536 is not within 1 and 65535"],
    ),
    "port as text": (ELECTION + 'instance = { address = "a", port = "1" }', ["a whole number"]),
    "two ids": (
        '[elections.r]\nservice = "r"\nservice_id = "a"\n'
        'instance = { id = "b", address = "a", port = 1 }',
        ["id = 'b', but the election's service_id = 'a'"],
    ),
    "instance with the leader tag": (INSTANCE + 'tags = ["master"]', ["only an election gives"]),
    "instance without what is asked": (
        ELECTION + 'tags = ["sensu"]\ninstance = { address = "a", port = 1, tags = [] }',
        ["tags lacks 'sensu', which the query asks for"],
    ),
    "check of no kind": (INSTANCE + "check = {}", ["exactly one of tcp, http, command"]),
    "check of two kinds": (
        INSTANCE + 'check = { tcp = "a:1", http = "http://a" }',
        ["instance.check: give exactly one of"],
    ),
    "tcp without port": (INSTANCE + 'check = { tcp = "a" }', ["tcp = 'a' is no address"]),
    "tcp of bare IPv6": (INSTANCE + 'check = { tcp = "::1:80" }', ["write", "[::1]:6379"]),
    "tcp with too high a port": (INSTANCE + 'check = { tcp = "a:65536" }', ["is no address"]),
    "http without a scheme": (INSTANCE + 'check = { http = "a/b" }', ["must be a URL like http"]),
    "http of a file": (INSTANCE + 'check = { http = "file:///x" }', ["must be a URL like http"]),
    "command as a string": (
        INSTANCE + 'check = { command = "true" }',
        ["run without a shell, write a list"],
    ),
    "command of nothing": (INSTANCE + "check = { command = [] }", ["names no program"]),
    "interval of nothing": (
        INSTANCE + 'check = { tcp = "a:1", interval = "0ms" }',
        ["interval must be longer than 0s"],
    ),
    "one lock for two": (
        other('service = "s"', ""),
        ["elections.b and 'a' compete for the same lock 's/master'"],
    ),
    "one query for two services": (
        other('service = "t"\nquery = "Q"', 'query = "q"'),
        ["elections.b and 'a' share the query 'Q'"],
    ),
    "one instance for two": (
        other('service = "s"\nquery = "r"\nleader_tag = "x"\nfollower_tag = "y"', 'query = "q"'),
        ["elections.b and 'a' elect among the same instances of 's'", "service_id"],
    ),
    "one tag for two": (
        other('service = "s"\nservice_id = "2"\nquery = "r"', 'service_id = "1"\nquery = "q"'),
        ["elections.b and 'a' both set the tag 'master' on the service 's'"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case: str, load_text: Load) -> None:
    text, parts = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "leadertag.toml: " in message
    at = 0
    for part in parts:
        assert part in message[at:]
        at = message.index(part, at)


def test_two_elections_of_one_service_need_instances_and_tags_of_their_own(load_text: Load) -> None:
    text = other(
        'service = "s"\nservice_id = "2"\nquery = "r"\nleader_tag = "x"\nfollower_tag = "y"',
        'service_id = "1"\nquery = "q"',
    )
    assert [election.name for election in load_text(text).elections] == ["a", "b"]


WRONG_VARIABLES: dict[str, tuple[dict[str, str], list[str]]] = {
    "no duration": ({"LEADERTAG_LEASE": "3"}, ["LEADERTAG_LEASE: lease = '3' is no duration"]),
    "no choice": ({"LEADERTAG_ON_STOP": "x"}, ["LEADERTAG_ON_STOP: on_stop = 'x' is none of"]),
    "no name": ({"LEADERTAG_BACKEND": "a b"}, ["LEADERTAG_BACKEND = 'a b' must not contain"]),
    "no election": (
        {"LEADERTAG_ELECTIONS__REDSI__LEASE": "3s"},
        ["LEADERTAG_ELECTIONS__REDSI__LEASE: there is no election 'redsi'", "mean 'redis'"],
    ),
    "no key": (
        {"LEADERTAG_ELECTIONS__REDIS__LEESE": "3s"},
        ["LEADERTAG_ELECTIONS__REDIS__LEESE: unknown key 'leese'", "mean 'lease'"],
    ),
    "a key of tables": (
        {"LEADERTAG_ELECTIONS__REDIS__HOOKS": "x"},
        ["unknown key 'hooks' (known: compat"],
    ),
    "a tag of the list": (
        {"LEADERTAG_ELECTIONS__REDIS__TAGS": "a,\x07"},
        ["LEADERTAG_ELECTIONS__REDIS__TAGS: tags: the tag"],
    ),
    "neither": ({"LEADERTAG_BACKEND__CONSUL": "x"}, ["is neither LEADERTAG_ELECTIONS__NAME__KEY"]),
    "without a key": ({"LEADERTAG_BACKENDS__CONSUL": "x"}, ["nor LEADERTAG_BACKENDS__NAME__KEY"]),
    "an empty part": ({"LEADERTAG_BACKENDS____X": "x"}, ["LEADERTAG_BACKENDS____X: is neither"]),
    "half a list": (
        {"LEADERTAG_BACKENDS__CONSUL__X": "[1]]"},
        ["LEADERTAG_BACKENDS__CONSUL__X: begins like", "in quotes"],
    ),
    "not UTF-8": ({"LEADERTAG_STATE_DIR": "/\udcff"}, ["LEADERTAG_STATE_DIR: is not UTF-8"]),
    "into what is no table": (
        {"LEADERTAG_BACKENDS__CONSUL__ADDRESS__X": "x"},
        ["LEADERTAG_BACKENDS__CONSUL__ADDRESS__X: address is no table"],
    ),
}


@pytest.mark.parametrize("case", WRONG_VARIABLES)
def test_a_wrong_variable_is_named(case: str, load_text: Load) -> None:
    environ, parts = WRONG_VARIABLES[case]
    with pytest.raises(ConfigError) as caught:
        load_text(ELECTION + '[backends.consul]\naddress = "x"\n', **environ)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_variable_that_could_mean_two_is_refused(load_text: Load) -> None:
    text = '[elections.a-b]\nservice = "s"\n[elections.a_b]\nservice = "t"\n'
    with pytest.raises(ConfigError, match="could mean 'a-b' or 'a_b'"):
        load_text(text, LEADERTAG_ELECTIONS__A_B__LEASE="3s")
    text = "[backends.a-b]\n[backends.a_b]\n"
    with pytest.raises(ConfigError, match="could mean 'a-b' or 'a_b'"):
        load_text(text, LEADERTAG_BACKENDS__A_B__X="1")


def test_variables_of_hooks_and_of_others_are_left_alone(load_text: Load) -> None:
    load_text(
        ELECTION,
        LEADERTAG_EVENT="promote",
        LEADERTAG_ROLE="leader",
        LEADERTAG_PORT="tcp://10.0.0.1:80",
        LEADERTAG_SERVICE_HOST="10.0.0.1",
    )
