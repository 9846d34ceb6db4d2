"""Finding, loading and checking plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from leadertag.errors import PluginBroken, PluginNotFound
from leadertag.hookspecs import HookEvent
from leadertag.plugins import PluginInfo, installed, load_hook, load_provider
from tests.unit.hooks.helpers import install

QUERY = """
    from leadertag.model import Characteristic
    from leadertag.providers import QueryProvider

    class Answers(QueryProvider):
        characteristics = frozenset({Characteristic.DNS})

        @classmethod
        def create(cls, context): return cls()
        def ensure(self, definition): return False
        def resolve(self, name): return ()
        def remove(self, name): pass
        def list(self): return ()

    class Older(Answers):
        contract = 0

    class Newer(Answers):
        contract = 2

    class Incomplete(QueryProvider):
        def ensure(self, definition): return False
        def list(self): return ()

    def function(): pass
"""


def entry(name: str, kind: str = "query") -> PluginInfo:
    """What is told of a plugin that is installed once."""
    (found,) = [info for info in installed() if (info.kind, info.name) == (kind, name)]
    return found


def test_a_provider_is_loaded_by_its_name(plugins: Path) -> None:
    module = install(plugins, {"leadertag.query": {"mine": "Answers"}}, QUERY, distribution="own")
    assert load_provider("query", "mine").__name__ == "Answers"
    found = entry("mine")
    assert (found.distribution, found.target) == ("own 1.0", f"{module}:Answers")
    assert found.characteristics == {"dns"}
    assert found.error == ""


def test_a_plugin_installed_a_moment_ago_is_found(plugins: Path) -> None:
    with pytest.raises(PluginNotFound):
        load_provider("query", "late")
    install(plugins, {"leadertag.query": {"late": "Answers"}}, QUERY)
    assert load_provider("query", "late")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("consull", r"lock provider 'consull' is not installed, did you mean 'consul'\?"),
        ("elsewhere", r"\(installed: .*consul, .*local"),
        ("elsewhere", "entry-point group leadertag.lock"),
    ],
)
def test_what_is_not_installed(name: str, told: str) -> None:
    with pytest.raises(PluginNotFound, match=told):
        load_provider("lock", name)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("Older", "written for contract 0, this leadertag has 1: upgrade the plugin"),
        ("Newer", "written for contract 2, this leadertag has 1: upgrade leadertag"),
        ("Incomplete", "Incomplete lacks create, remove, resolve"),
        ("function", "is no QueryProvider but an object of type function"),
        ("nothing", "AttributeError"),
    ],
)
def test_a_wrong_provider_is_refused_and_still_listed(
    plugins: Path, target: str, told: str
) -> None:
    install(plugins, {"leadertag.query": {"wrong": target}}, QUERY)
    with pytest.raises(PluginBroken, match=told) as caught:
        load_provider("query", "wrong")
    assert entry("wrong").error == str(caught.value)
    assert "\n" not in entry("wrong").error
    assert entry("command", "hook").error == ""


def test_a_provider_of_another_kind_is_refused(plugins: Path) -> None:
    install(plugins, {"leadertag.lock": {"wrong": "Answers"}}, QUERY)
    with pytest.raises(PluginBroken, match="'wrong' is no LockProvider but the class"):
        load_provider("lock", "wrong")


def test_one_name_in_two_distributions_names_both(plugins: Path) -> None:
    for name in ("first-one", "second-one"):
        install(plugins, {"leadertag.query": {"same": "Answers"}}, QUERY, distribution=name)
    with pytest.raises(PluginBroken, match=r"offered twice, by first-one .* and second-one") as e:
        load_provider("query", "same")
    errors = [info.error for info in installed() if info.name == "same"]
    assert errors == [str(e.value)] * 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import consul.not_there", r"it needs consul: pip install 'leadertag\[consul\]'"),
        ("import nowhere_to_be_found", "needs the module nowhere_to_be_found"),
        ("raise ValueError('first\\nsecond')", "cannot be loaded: ValueError: first$"),
        ("class Hook", "SyntaxError"),
    ],
)
def test_what_cannot_be_imported(plugins: Path, source: str, told: str) -> None:
    install(plugins, {"leadertag.hooks": {"wrong": "Hook"}}, source)
    with pytest.raises(PluginBroken, match=told):
        load_hook("wrong")


def test_a_module_that_is_imported_late_is_missed_at_the_start(plugins: Path) -> None:
    source = """
        from leadertag import hookimpl
        class Hook:
            requires = ("nowhere_to_be_found",)
            @hookimpl
            def leadertag_promote(self, change): pass
    """
    install(plugins, {"leadertag.hooks": {"late": "Hook"}}, source)
    with pytest.raises(PluginBroken, match="cannot be used: it needs the module nowhere_to_be"):
        load_hook("late")


def test_hooks_tell_their_events() -> None:
    assert entry("redis", "hook").events == {
        HookEvent.BEFORE_PROMOTE,
        HookEvent.PROMOTE,
        HookEvent.VERIFY,
        HookEvent.DEMOTE,
        HookEvent.FOLLOW,
        HookEvent.RANK,
        HookEvent.PROBE,
    }
    assert entry("template", "hook").events == {
        HookEvent.PROMOTE,
        HookEvent.DEMOTE,
        HookEvent.FOLLOW,
    }


def test_the_import_costs_no_backend_and_no_stevedore() -> None:
    code = (
        "import sys, leadertag.plugins;"
        "print([m for m in ('stevedore', 'pluggy', 'leadertag_consul', 'leadertag_local',"
        " 'leadertag.providers', 'consul', 'redis', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
