"""What is named has to be installed; the providers of one backend share what they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leadertag import backends
from leadertag.backends import open_providers
from leadertag.config import installed
from leadertag.config.environment import suspicious
from leadertag.config.installed import check_installed
from leadertag.errors import ConfigError, PluginNotFound
from leadertag.providers import BackendContext, Provider
from tests.unit.config.conftest import Load


@pytest.fixture(autouse=True)
def two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are backends ``one`` and ``two``, and a hook ``command``."""
    known = {"hooks": frozenset({"command"})}
    both = frozenset({"one", "two"})
    monkeypatch.setattr(installed, "names", lambda group: known.get(group, both))


def test_an_unknown_backend(load_text: Load) -> None:
    settings = load_text('backend = "two"\nregistry = "tow"')
    with pytest.raises(PluginNotFound) as caught:
        check_installed(settings)
    assert "the registry provider 'tow' is not installed, did you mean 'two'?" in str(caught.value)


def test_an_unknown_hook(load_text: Load) -> None:
    text = 'backend = "one"\n[elections.r]\nservice = "r"\nhooks = [{ use = "comand" }]'
    with pytest.raises(PluginNotFound) as caught:
        check_installed(load_text(text))
    assert "elections.r.hooks[0]: the hook 'comand' is not installed" in str(caught.value)
    assert "did you mean 'command'?" in str(caught.value)


def test_a_table_of_no_backend(load_text: Load) -> None:
    settings = load_text('backend = "one"\n[backends.twoo]\nx = 1')
    for check in (check_installed, lambda s: open_providers(s, environ={})):
        with pytest.raises(ConfigError) as caught:
            check(settings)
        assert "backends.twoo: no backend of that name" in str(caught.value)
        assert "did you mean 'two'?" in str(caught.value)


def test_a_table_of_a_backend_that_is_not_used_at_present(load_text: Load) -> None:
    settings = load_text('backend = "one"\n[backends.two]\nx = 1\n[backends.one]')
    check_installed(settings)
    assert list(installed.unused_backends(settings)) == ["two"]


def test_suspicious_variables() -> None:
    environ = {"LEADERTAG_LAESE": "1", "LEADERTAG_LEASE": "1s", "LEADERTAG_EVENT": "promote",
               "LEADERTAG_SERVICE_HOST": "h", "PATH": "x", "LEADERTAG_INTERVAL": "1s"}  # fmt: skip
    assert suspicious(environ) == ["LEADERTAG_LAESE is ignored, did you mean 'LEASE'?"]


class Shared(Provider):
    """A provider that tells what it was made of."""

    closed = 0

    def __init__(self, context: BackendContext) -> None:
        self.context = context

    @classmethod
    def create(cls, context: BackendContext) -> Shared:
        return cls(context)

    def close(self) -> None:
        self.closed += 1


def test_the_kinds_of_one_backend_share_a_context(
    load_text: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def load_provider(kind: str, name: str) -> type[Provider]:
        asked.append((kind, name))
        return Shared

    monkeypatch.setattr(backends, "load_provider", load_provider)
    text = 'backend = "one"\nlock = "two"\n[backends.one]\nx = 1'
    settings = load_text(text, LEADERTAG_BACKENDS__ONE__Y="2")
    environ = {"NATIVE": "v"}
    providers = open_providers(settings, own_checks=("me",), environ=environ)
    assert asked == [("lock", "two"), ("registry", "one"), ("query", "one")]
    made: list[Any] = [providers.lock, providers.registry, providers.query]
    assert made[1].context is made[2].context is not made[0].context
    context = made[1].context
    assert context.settings.plain() == {"x": 1, "y": 2}
    assert context.own_checks == ("me",)
    assert context.environ is environ
    assert "backends.one (with LEADERTAG_BACKENDS__ONE__Y)" in context.settings.where
    providers.close()
    assert [provider.closed for provider in made] == [1, 1, 1]
