"""Around every verb: one line for an error, the exit codes, quiet ends, no secret."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import pytest

from leadertag.cli import exits, frame
from leadertag.errors import (
    Ambiguous,
    BackendUnavailable,
    ConfigError,
    HookError,
    LeaderTagError,
    PermissionDenied,
    PluginBroken,
    PluginNotFound,
)
from tests.unit.cli.conftest import Cli, Result


def ending(error: BaseException, **settings: object) -> Callable[[list[str]], int]:
    """Return an entry point that ends with that error."""

    def entry(_: list[str]) -> int:
        args = frame.new_namespace()
        vars(args).update(settings)

        def body() -> int:
            raise error

        return frame.guarded(body, args)

    return entry


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError, exits.FAILING),
        (PluginNotFound, exits.FAILING),
        (PluginBroken, exits.FAILING),
        (LeaderTagError, exits.FAILING),
        (BackendUnavailable, exits.UNSETTLED),
        (PermissionDenied, exits.UNSETTLED),
        (Ambiguous, exits.UNSETTLED),
        (HookError, exits.UNSETTLED),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: type[LeaderTagError], code: int, cli: Cli
) -> None:
    result = cli(entry=ending(error("went wrong")))
    assert result == Result(code, "", "leadertag: went wrong\n")


def test_with_json_an_error_is_json(cli: Cli) -> None:
    result = cli(entry=ending(BackendUnavailable("no answer"), json=True))
    assert (result.code, result.err) == (1, "")
    assert result.json == {"error": "no answer", "exit_code": 1}


def test_an_error_stays_on_one_line(cli: Cli) -> None:
    result = cli(entry=ending(ConfigError("a\nb\tc\x1b[31m\u2028d \udcff")))
    assert result.err == "leadertag: a b c\\x1b[31m d \\udcff\n"


def test_an_interrupt_is_quiet(cli: Cli) -> None:
    result = cli(entry=ending(KeyboardInterrupt()))
    assert (result.code, result.out, result.err) == (exits.INTERRUPTED, "", "")


def test_what_nobody_expected_is_one_line_too(cli: Cli) -> None:
    result = cli(entry=ending(ZeroDivisionError("oh\nno")))
    assert result.code == exits.FAILING
    assert result.err == (
        "leadertag: internal error: ZeroDivisionError: oh no (-v shows the traceback); "
        "please report this\n"
    )


def test_with_v_the_traceback_is_shown(cli: Cli) -> None:
    result = cli(entry=ending(ZeroDivisionError("oh"), verbose=1))
    assert "Traceback (most recent call last)" in result.err
    assert "(-v shows" not in result.err


def test_no_secret_in_an_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from-environment")
    text = "from-environment and from-settings at http://u:from-url@h"
    result = cli(entry=ending(ValueError(text), verbose=1, secrets={"from-settings"}))
    assert "from-url" not in result.err
    # The traceback quotes this test's own line, `raise error`, and the message once more.
    assert result.err.count("*** and *** at http://u:***@h") == 2
    assert "from-environment" not in result.err
    assert "from-settings" not in result.err


def test_a_closed_pipe_is_quiet() -> None:
    script = "import sys; from leadertag.cli import main; sys.exit(main(['plugins', '--json']))"
    command = f'{sys.executable} -c "{script}" | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (f"{exits.UNSETTLED}\n", "")


def test_a_terminal_without_unicode_gets_escapes(spawn: Cli) -> None:
    result = spawn("status", "--nö", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert result.code == exits.FAILING
    assert result.err.startswith("leadertag: status: unknown option --n\\")
    assert result.err.isascii()
    assert result.err.count("\n") == 1


def test_the_namespace_begins_empty() -> None:
    one, other = frame.new_namespace(), frame.new_namespace(json=True)
    assert isinstance(one, argparse.Namespace)
    assert (one.json, other.json) == (False, True)
    assert one.secrets is not other.secrets
