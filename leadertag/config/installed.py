"""Whether what a configuration names is installed, from the names of entry points alone.

Nothing is imported: a check of the configuration costs no backend and no client library.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from leadertag.config.load import KINDS
from leadertag.config.settings import Settings
from leadertag.errors import ConfigError, PluginNotFound, did_you_mean


def names(group: str) -> frozenset[str]:
    """Return the names of ``lock``, ``registry`` or ``query`` providers, or of ``hooks``."""
    entries = importlib.metadata.entry_points(group=f"leadertag.{group}")
    return frozenset(entry.name for entry in entries)


def check_installed(settings: Settings) -> None:
    """Raise PluginNotFound for a backend or hook, ConfigError for a table of no backend."""
    for kind in KINDS:
        _check(getattr(settings, kind), names(kind), f"{settings.source}: the {kind} provider")
    check_backend_tables(settings)
    hooks = names("hooks")
    for election in settings.elections:
        for hook in election.hooks:
            _check(hook.use, hooks, f"{hook.where}: the hook")


def _check(name: str, installed: frozenset[str], what: str) -> None:
    if name not in installed:
        listed = ", ".join(sorted(installed)) or "none"
        raise PluginNotFound(
            f"{what} {name!r} is not installed{did_you_mean(name, installed)} (installed: {listed})"
        )


def check_backend_tables(settings: Settings) -> None:
    """Refuse ``[backends.X]`` where X is neither used nor installed: a misspelt table.

    One that is installed but not used is left alone: the same file may serve several
    backends, chosen by an option or a variable.
    """
    used = {settings.lock, settings.registry, settings.query}
    unused = set(settings.backends) - used
    if not unused:
        return
    installed = frozenset[str]().union(*(names(kind) for kind in KINDS))
    for name in sorted(unused - installed):
        near = did_you_mean(name, used | installed)
        raise ConfigError(
            f"{settings.source}: backends.{name}: no backend of that name is used or "
            f"installed{near}"
        )


def unused_backends(settings: Settings) -> Iterator[str]:
    """Return the names of tables that nothing uses at present."""
    used = {settings.lock, settings.registry, settings.query}
    yield from sorted(set(settings.backends) - used)
