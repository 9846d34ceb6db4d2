"""The options of ``leadertag plugins``: what belongs together, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nonsense",), "plugins: verify|new: 'nonsense' is none of verify, new"),
        (("verfy", "local"), "did you mean 'verify'?"),
        (("verify",), "plugins verify: name the plugin"),
        (("new",), "plugins new: name the plugin"),
        (("--kind", "lock"), "plugins: --kind belongs to plugins verify NAME"),
        (("new", "x", "--harness", "a:B"), "plugins: --harness belongs to plugins verify NAME"),
        (("verify", "local", "--hook"), "plugins: --hook belongs to plugins new NAME"),
        (("verify", "local", "--directory", "d"), "--directory belongs to plugins new NAME"),
        (("verify", "local", "--kind", "locks"), "did you mean 'lock'?"),
        (("verify", "local", "--harness", "module"), "--harness 'module': write MODULE:CLASS"),
        (("verify", "local", "extra"), "unexpected argument 'extra'"),
        (("verify", "lokal"), "the lock provider 'lokal' is not installed, did you mean 'local'?"),
        (("verify", "redis"), "the lock provider 'redis' is not installed"),
        (("verify", "lokal", "--kind", "query"), "the query provider 'lokal' is not installed"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], says: str, cli: Cli) -> None:
    result = cli("plugins", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert says in result.err


def test_the_help_tells_of_all(cli: Cli) -> None:
    result = cli("plugins", "--help")
    assert result.code == 0
    for word in ("verify|new", "--kind", "--harness", "--directory", "--hook", "--config"):
        assert word in result.out


def test_without_pytest_there_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    result = cli("plugins", "verify", "local")
    assert (result.code, result.out) == (2, "")
    hint = "leadertag: plugins verify needs pytest: pip install 'leadertag[test]'\n"
    assert result.err == hint


def test_a_new_plugin_is_written_where_one_stands(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("plugins", "new", "fresh", "--json")
    assert (result.code, result.json["directory"]) == (0, "leadertag-fresh")
    found = {
        str(path.relative_to("leadertag-fresh"))
        for path in Path("leadertag-fresh").rglob("*")
        if path.is_file()
    }
    assert found == set(result.json["files"])
    again = cli("plugins", "new", "fresh")
    assert (again.code, again.out) == (2, "")
    assert again.err == "leadertag: leadertag-fresh exists already: name another with --directory\n"


@pytest.mark.parametrize("name", ["local", "redis"])
def test_a_name_that_is_taken_is_refused(name: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("plugins", "new", name, "--directory", str(tmp_path / "new"))
    assert result.code == 2
    assert f"plugin '{name}' already, of leadertag " in result.err
    assert not (tmp_path / "new").exists()
