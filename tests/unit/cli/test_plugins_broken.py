"""Broken plugins, each a real distribution on the path: one line each, and the rest is listed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.hooks.helpers import install

QUERY = """
    from leadertag.providers import QueryProvider

    class Answers(QueryProvider):
        @classmethod
        def create(cls, context): return cls()
        def ensure(self, definition): return False
        def resolve(self, name): return ()
        def remove(self, name): pass
        def list(self): return ()

    class Older(Answers):
        contract = 0

    class Worded(Answers):
        characteristics = frozenset({"dns"})

    class Numbered(Answers):
        characteristics = 7

    class Late(Answers):
        requires = ("nowhere_to_be_found.inside",)

    class Panic(BaseException):
        pass

    def __getattr__(name):
        raise Panic("a panic of a Rust extension")
"""
BROKEN = {
    "exits": ("import sys; sys.exit('not here')", "cannot be loaded: SystemExit: not here"),
    "silent": ("raise SystemExit", "cannot be loaded: SystemExit"),
    "panics": (QUERY, "cannot be loaded: Panic: a panic of a Rust extension"),
    "misspelt": ("class Plugin(:", "cannot be loaded: SyntaxError: invalid syntax"),
    "lacking": ("import nowhere_to_be_found", "it needs the module nowhere_to_be_found, which"),
    "asserts": ("assert False, 'no'", "cannot be loaded: AssertionError: no"),
    "Older": (QUERY, "written for contract 0, this leadertag has 1: upgrade the plugin"),
    "Worded": (QUERY, "declares the characteristic 'dns', which is none of Characteristic.CROSS"),
    "Numbered": (QUERY, "declares the characteristic 7, which is none of"),
    "Late": (QUERY, "it needs the module nowhere_to_be_found.inside, which is not installed"),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_one_line_tells_why_and_the_rest_is_listed(name: str, site: Path, spawn: Cli) -> None:
    source, says = BROKEN[name]
    install(site, {"leadertag.query": {"broken": name}}, source, distribution="own")
    listed = spawn("plugins", PYTHONPATH=str(site))
    assert (listed.code, listed.err) == (0, "")
    (told,) = (
        line for line in listed.out.splitlines() if line.startswith("the query provider 'broken'")
    )
    assert says in told
    assert re.search(r"^query +broken +own 1\.0 +cannot be used", listed.out, re.MULTILINE)
    assert re.search(r"^query +local +leadertag \S+ +-$", listed.out, re.MULTILINE)

    words = ("query", "q", "--backend", "local", "--query-backend", "broken")
    used = spawn(*words, PYTHONPATH=str(site))
    assert (used.code, used.out, used.err) == (2, "", f"leadertag: {told}\n")
    verified = spawn("plugins", "verify", "broken", PYTHONPATH=str(site))
    assert (verified.code, verified.out, verified.err) == (2, "", f"leadertag: {told}\n")


def test_an_entry_point_that_is_none(site: Path, spawn: Cli) -> None:
    _offer(site, "own", "broken = what is this?")
    listed = spawn("plugins", PYTHONPATH=str(site))
    assert listed.code == 0
    assert listed.out.splitlines()[-1] == (
        "the query provider 'broken' of own 1.0 cannot be loaded: its entry point "
        "'what is this?' is no module:attribute"
    )


def test_two_distributions_with_one_name(site: Path, spawn: Cli) -> None:
    for distribution in ("one", "two"):
        _offer(site, distribution, f"same = leadertag_{distribution}:Query")
    said = (
        "the query provider 'same' is offered twice, by one 1.0 (leadertag_one:Query) and "
        "two 1.0 (leadertag_two:Query): uninstall one"
    )
    listed = spawn("plugins", PYTHONPATH=str(site))
    assert listed.code == 0
    assert listed.out.splitlines()[-2:] == [said, said]
    verified = spawn("plugins", "verify", "same", PYTHONPATH=str(site))
    assert (verified.code, verified.err) == (2, f"leadertag: {said}\n")


def test_half_an_installation(site: Path, spawn: Cli) -> None:
    """Its metadata is lost, its entry points are still there."""
    _offer(site, "own", "broken = nowhere_to_be_found:Query")
    (site / "own-1.0.dist-info" / "METADATA").unlink()
    listed = spawn("plugins", PYTHONPATH=str(site))
    assert (listed.code, listed.err) == (0, "")
    assert re.search(r"^query +broken +an unknown distribution +", listed.out, re.MULTILINE)


def _offer(site: Path, distribution: str, entry: str) -> None:
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
    (info / "METADATA").write_text(text)
    (info / "entry_points.txt").write_text(f"[leadertag.query]\n{entry}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('backend = "elsewhere"', "the lock provider 'elsewhere' is not installed (installed: "),
        ('backend = "local"\nquery = "elsewhere"', "the query provider 'elsewhere' is not inst"),
        (
            'backend = "local"\n[elections.r]\nservice = "r"\nhooks = [{ use = "bell" }]',
            "elections.r.hooks[0]: the hook 'bell' is not installed (installed: ",
        ),
    ],
)
def test_a_check_of_the_configuration_has_the_hint(
    text: str, says: str, cli: Cli, config: Callable[[str], str]
) -> None:
    path = config(text)
    result = cli("config", "check", "--config", path)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"leadertag: {path}: ")
    assert says in result.err
    assert "a plugin offers it under the entry-point group leadertag." in result.err
