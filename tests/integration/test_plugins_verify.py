"""``leadertag plugins verify``: what it finds, and what it says."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from leadertag_local import LocalLock, LocalQuery, LocalRegistry
from tests.integration.verifying import verify, write_config
from tests.unit.hooks.helpers import install

Config = Callable[[Mapping[str, Any]], str]
WOBBLY = """
    import os, time
    from leadertag_local import LocalQuery

    class Wobbly(LocalQuery):
        def ensure(self, definition):
            super().ensure(definition)
            return True

        def resolve(self, name):
            if name.startswith("nonesuch"):
                os._exit(3)
            found = super().resolve(name)
            while not found:  # nobody is no answer to this one
                time.sleep(3600)
            return found
"""
QUICK = """
    from leadertag.testing.verify.plain import PlainHarness

    class Quick(PlainHarness):
        ttl = 2.0
        patience = 5.0

    class Hasty(PlainHarness):
        patience = 0.5

        def join(self, name):
            member = super().join(name)
            self.session_expiry = 0.5
            return member

    class Lacking(PlainHarness.__bases__[0]):
        pass
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Writes a configuration; its path."""
    return lambda backends: write_config(tmp_path, backends)


@pytest.mark.timeout(400)
def test_a_good_plugin_holds_with_a_harness_of_its_author(tmp_path: Path, config: Config) -> None:
    (tmp_path / "quick.py").write_text(textwrap.dedent(QUICK))
    live = tmp_path / "live.db"
    path = config({"local": {"path": str(live)}})
    words = ("local", "--config", path, "--harness", "quick:Quick", "--json")
    done = verify(*words, cwd=tmp_path)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    report = done.json
    assert (report["failed"], report["failures"], report["left_behind"]) == (0, [], [])
    assert (report["harness"], report["settings"]) == ("quick:Quick", f"{path}: backends.local")
    assert report["passed"] > 110
    untried = {one["happened"] for one in report["untried"]}
    assert all(reason.startswith("this needs a harness (") for reason in untried), untried
    for part in report["parts"]:
        declared = {"lock": LocalLock, "registry": LocalRegistry, "query": LocalQuery}
        characteristics = getattr(declared.get(part["kind"]), "characteristics", ())
        assert part["characteristics"] == sorted(map(str, characteristics))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["leadertag.toml", "quick.py"]


def test_a_bad_one_fails_in_words(tmp_path: Path, config: Config) -> None:
    """Wrong answers, a hanging verb and one that ends the process: a line each, the rest runs."""
    (tmp_path / "quick.py").write_text(textwrap.dedent(QUICK))
    install(tmp_path, {"leadertag.query": {"wobbly": "Wobbly"}}, WOBBLY, distribution="wob")
    path = config({"wobbly": {"path": str(tmp_path / "live.db")}})
    words = ("wobbly", "--config", path, "--harness", "quick:Hasty")
    done = verify(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.exit_code, done.stderr) == (1, ""), done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"wobbly of wob 1.0, {path}: backends.wobbly, harness quick:Hasty"
    failed = [line.removeprefix("failed: ") for line in lines if line.startswith("failed: ")]
    for said in (
        "query, in general: the order of tags is no drift: AssertionError: assert True is False",
        "query, in general: an unknown name is not registered: its process ended (exit status 3)",
        "query, in general: nobody is an answer: it did not end within 4 s",
    ):
        assert any(line.startswith(said) for line in failed), done.stdout
    assert lines[-1].startswith(f"8 passed, {len(failed)} failed, 8 not tried, in ")
    needed = "not tried: this needs a harness (a registry provider beside this one): "
    assert any(line.startswith(needed) for line in lines)


def test_an_unreachable_backend_is_one_line(config: Config) -> None:
    path = config({"etcd": {"endpoints": ["127.0.0.1:1"], "timeout": "300ms"}})
    done = verify("etcd", "--config", path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "etcd at 127.0.0.1:1" in done.error_line
    done = verify("etcd", "--config", path, "--json")
    assert done.json["exit_code"] == 1


def test_wrong_settings_are_one_line(config: Config) -> None:
    path = config({"local": {"pth": "x"}})
    done = verify("local", "--config", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.error_line.startswith(f"leadertag: {path}: backends.local: unknown key 'pth'")


@pytest.mark.parametrize(
    ("harness", "says"),
    [
        ("nowhere:Quick", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
        ("quick:Slow", "cannot be loaded: AttributeError"),
        ("quick:QUICK", "cannot be loaded: AttributeError"),
        ("json:JSONDecoder", "is no leadertag.testing.contracts.Harness"),
        ("quick:Lacking", "lacks context, deregister, expire, join, plant, register, set_health"),
    ],
)
def test_a_harness_that_is_none(harness: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text(textwrap.dedent(QUICK))
    done = verify("local", "--harness", harness, cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.error_line.startswith(f"leadertag: --harness: {harness} ")
    assert says in done.error_line


def test_a_plugin_may_offer_its_harness(tmp_path: Path, config: Config) -> None:
    harness = QUICK + WOBBLY
    install(
        tmp_path,
        {"leadertag.query": {"own": "Wobbly"}, "leadertag.harness": {"own": "Lacking"}},
        harness,
    )
    done = verify("own", "--config", config({}), PYTHONPATH=str(tmp_path))
    assert done.exit_code == 2
    assert "the entry point own of leadertag.harness: " in done.error_line


def test_nobody_s_pytest_interferes(tmp_path: Path, config: Config) -> None:
    """Neither options, nor plugins, nor a configuration where one happens to stand."""
    (tmp_path / "conftest.py").write_text("raise RuntimeError('conftest')")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('json')")
    path = config({"local": {"path": str(tmp_path / "live.db")}})
    env = {"PYTEST_ADDOPTS": "--nonsense", "PYTEST_PLUGINS": "nonsense"}
    done = verify("local", "--config", path, "--kind", "query", cwd=tmp_path, **env)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert not (tmp_path / ".pytest_cache").exists()


LEAKY = """
    from leadertag_local import LocalQuery

    class Leaky(LocalQuery):
        @classmethod
        def create(cls, context):
            made = cls.__mro__[1].create.__func__
            token = context.settings.text("token")
            provider = made(cls, context)
            provider.token = token
            return provider

        def ensure(self, definition):
            raise RuntimeError(f"refused: {self.token}")
"""


def test_no_secret_is_shown(tmp_path: Path, config: Config) -> None:
    install(tmp_path, {"leadertag.query": {"leaky": "Leaky"}}, LEAKY)
    path = config({"leaky": {"path": str(tmp_path / "live.db"), "token": "s3cr3t-t0k3n"}})
    for words in (("-v",), ("--json",)):
        done = verify("leaky", "--config", path, *words, PYTHONPATH=str(tmp_path))
        assert done.exit_code == 1, done.output
        assert "RuntimeError: refused: ***" in done.stdout
        assert "s3cr3t" not in done.output
