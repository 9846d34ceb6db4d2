"""Whatever is typed, or stands in the environment: a result, or one line and an exit code."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.cli import VERBS, predecessor
from leadertag.cli.frame import guarded, new_namespace
from leadertag.cli.parsing import parse
from leadertag.config.elections import FIELDS
from leadertag.config.environment import ELSEWHERE, EVERY, TOP, read_variables
from leadertag.errors import ConfigError
from tests.unit.cli.conftest import Cli, Result
from tests.unit.hostile.anything import hostile, outcome, texts

CODES = {0, 1, 2, 130}
OPTIONS = [
    "--config", "--json", "--log-level", "-v", "-vv", "--version", "--help", "-h", "--backend",
    "--lock-backend", "--registry-backend", "--query-backend", "--state-dir", "--service", "--id",
    "--query", "--tag", "--leader-tag", "--follower-tag", "--lease", "--compat", "--interval",
    "--timeout", "--check-id", "--", "-", "---", "--=", "-x", "--nothing",
]  # fmt: skip
VALUES = ["redis", "local", "consul", "master", "3s", "0s", "1e9s", "-1s", "NaN", "debug", "q"]
words = st.lists(
    st.sampled_from(OPTIONS + VALUES) | texts
    | st.tuples(st.sampled_from(OPTIONS), texts).map("=".join),
    max_size=6,
)  # fmt: skip
CONFIG = """\
backend = "local"
[elections.redis]
service = "redis"
query = "q"
[elections.redis.instance]
id = "r1"
address = "127.0.0.1"
port = 1
"""
HARMLESS = ("config", "explain", "history", "plugins", "query", "status")
"""Verbs that end by themselves and write nothing, whatever their words are."""


def check(result: Result) -> None:
    """An exit code of ours, and an error on one line without anything for the terminal."""
    assert result.code in CODES, result
    assert "internal error" not in result.err + result.out, result
    assert all(c.isprintable() or c == "\n" for c in result.err), result
    logged = re.compile(r"leadertag: (DEBUG|INFO|WARNING) ")
    told = [line for line in result.err.splitlines() if line.startswith("leadertag: ")]
    assert len([line for line in told if not logged.match(line)]) <= 1, result


@given(st.sampled_from([*sorted(VERBS), "", "chekc", "--", "\0"]), words, words)
@hostile(250)
def test_any_words_are_understood_or_refused(
    verb: str, before: list[str], after: list[str]
) -> None:
    """Also of the verbs that would run on: nothing is done here but reading the words."""
    args = new_namespace()
    found = outcome(lambda: parse([*before, verb, *after], VERBS, args))
    assert callable(found) or isinstance(found, ConfigError)


@given(st.sampled_from(HARMLESS), words)
@hostile(80)
def test_any_words_of_harmless_verbs(
    cli: Cli, config: Callable[[str], str], verb: str, after: list[str]
) -> None:
    result = cli("--config", config(CONFIG), verb, *after)
    check(result)
    if not {"-v", "-vv"} & {word.partition("=")[0] for word in after}:
        assert "Traceback" not in result.err, result
    if result.code == 2 and "--json" in after and result.out.startswith("{"):
        assert json.loads(result.out)["exit_code"] == 2


FLAGS = ["-consul-service-name", "--consul-query-name", "-consul-query-tag", "-h", "--", "-"]


@given(st.lists(st.sampled_from(FLAGS) | texts, max_size=6))
@hostile(200)
def test_any_flags_of_the_predecessor(flags: list[str]) -> None:
    def read() -> Any:
        found = list(predecessor.read_flags(flags))
        return predecessor.as_check(found)

    found = outcome(read)
    assert not isinstance(found, Exception) or isinstance(found, ConfigError)


# -- the environment -------------------------------------------------------------------------

NAMES = [
    *(f"LEADERTAG_{name}" for name in (*TOP, *map(str.upper, EVERY), *ELSEWHERE)),
    *(f"LEADERTAG_ELECTIONS__REDIS__{name.upper()}" for name in sorted(FIELDS)),
    *(f"LEADERTAG_BACKENDS__LOCAL__{name}" for name in ("PATH", "NODE", "TIMEOUT", "GATE_LIFE")),
    "LEADERTAG_BACKENDS__CONSUL__ADDRESS", "LEADERTAG_BACKENDS__ETCD__ENDPOINTS",
    "LEADERTAG_ELECTIONS__", "LEADERTAG_BACKENDS____A", "LEADERTAG___", "LEADERTAG_",
]  # fmt: skip
TYPED = ["true", "[1", "[[]]", '"', "'a'", "1_0", "-", "+1", "[" * 5000, '"\\ud800"', "9" * 5000]
contents = texts | st.sampled_from([*VALUES, *TYPED, "\udc80"])


@given(st.dictionaries(st.sampled_from(NAMES), contents, max_size=4))
@hostile(300)
def test_any_variables_are_read_or_refused_by_name(environ: dict[str, str]) -> None:
    found = outcome(lambda: read_variables(environ))
    if isinstance(found, ConfigError):
        assert any(name in str(found) for name in environ)


@given(st.sampled_from(TYPED) | st.text("[]\"'{}=,\\10.ex-_ \n", max_size=8))
@hostile(150)
def test_any_value_of_a_backend_is_read_as_it_looks_or_refused(value: str) -> None:
    found = outcome(lambda: read_variables({"LEADERTAG_BACKENDS__LOCAL__PATH": value}))
    assert not isinstance(found, Exception) or isinstance(found, ConfigError)


@given(st.dictionaries(st.sampled_from(NAMES), contents, min_size=1, max_size=3))
@hostile(60)
def test_any_variables_of_a_command(
    cli: Cli, config: Callable[[str], str], environ: dict[str, str]
) -> None:
    path = config(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            if "\0" not in value and encodes(value):  # the kernel lets no other through
                patch.setitem(os.environ, name, value)
        result = cli("--config", path, "config", "show")
    check(result)


def encodes(value: str) -> bool:
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def test_an_unforeseen_error_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The last resort of the frame, which all of these tests lean on."""

    def fail() -> int:
        raise RuntimeError("two\nlines \x1b[31m")

    assert guarded(fail, new_namespace()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
