"""The command line as it is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from leadertag import __version__
from leadertag.cli import VERBS
from tests.unit.cli.conftest import Cli

WRONG: dict[tuple[str, ...], str] = {
    (): "name a verb: run, check",
    ("chek",): "unknown verb 'chek', did you mean 'check'?",
    ("xyzzy",): "unknown verb 'xyzzy' (there are run, check",
    ("--jsn", "status"): "unknown option --jsn, did you mean '--json'?",
    ("--config",): "--config: expected one argument",
    ("status", "--servce=x"): "status: unknown option --servce, did you mean '--service'?",
    ("status", "--log-level", "inf"): "status: --log-level: 'inf' is none of debug, info,",
    ("check", "x"): "check: unexpected argument 'x'",
    ("check", "--interval", "3"): "check: --interval: '3' is no duration (write 15s, 500ms, 2m)",
    ("check", "--interval", "0s"): "check: --interval: '0s' must be longer than 0s",
    ("check", "--timeout", "48h"): "not longer than 24h",
    ("check", "--serv", "x"): "check: unknown option --serv, did you mean '--service'?",
    ("query",): "query: the following arguments are required: NAME",
    ("query", "a", "b"): "query: unexpected argument 'b'",
    ("config",): "config: the following arguments are required: check|show",
    ("config", "chck"): "config: check|show: 'chck' is none of check, show, did you mean 'check'?",
    ("plugins", "-x"): "plugins: unknown option -x",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_one_line(words: tuple[str, ...], cli: Cli) -> None:
    result = cli(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("leadertag: ")
    assert result.err.count("\n") == 1
    assert WRONG[words] in result.err


@pytest.mark.parametrize("words", [("chek", "--json"), ("--json", "query"), ("query", "--json")])
def test_wrong_usage_is_json_where_json_is_wanted(words: tuple[str, ...], cli: Cli) -> None:
    result = cli(*words)
    assert (result.code, result.err) == (2, "")
    assert result.json["exit_code"] == 2
    assert result.json["error"]


@pytest.mark.parametrize("words", [("--version",), ("--json", "--version")])
def test_the_version(words: tuple[str, ...], cli: Cli) -> None:
    assert cli(*words).out == f"leadertag {__version__}\n"


def test_the_help_lists_every_verb(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    for verb, what in VERBS.items():
        assert f"{verb} " in result.out
        assert what in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_the_options_of_all(verb: str, cli: Cli) -> None:
    result = cli(verb, "--help")
    assert (result.code, result.err) == (0, "")
    for option in ("--config", "--json", "--log-level", "--verbose"):
        assert option in result.out
    module = importlib.import_module(f"leadertag.cli.{verb}")
    assert (module.__doc__ or "").splitlines()[0] in result.out


@pytest.mark.parametrize(
    "order",
    [
        lambda path: ("--config", path, "--json", "config", "show"),
        lambda path: ("config", "show", "--config", path, "--json"),
        lambda path: ("--json", "config", "--config", path, "show"),
    ],
)
def test_options_of_all_may_stand_anywhere(
    order: Callable[[str], tuple[str, ...]], cli: Cli, config: Callable[[str], str]
) -> None:
    result = cli(*order(config('backend = "local"')))
    assert result.code == 0
    assert result.json["lock"] == "local"


def test_the_option_after_the_verb_wins(cli: Cli, config: Callable[[str], str]) -> None:
    path = config('backend = "local"')
    assert cli("--config", "/nowhere", "config", "check", "--config", path).code == 0


def test_python_m(spawn: Cli) -> None:
    result = spawn("--version")
    assert (result.code, result.out, result.err) == (0, f"leadertag {__version__}\n", "")
    assert spawn("chek").code == 2
