"""Whether what a configuration names is installed and goes together, by entry points alone.

Nothing is imported: a check of the configuration costs no backend and no client library.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from leadertag.config.load import KINDS
from leadertag.config.settings import Settings
from leadertag.errors import ConfigError, PluginNotFound, did_you_mean
from leadertag.plugins import not_installed


def names(group: str) -> frozenset[str]:
    """Return the names of ``lock``, ``registry`` or ``query`` providers, or of ``hooks``."""
    entries = importlib.metadata.entry_points(group=f"leadertag.{group}")
    return frozenset(entry.name for entry in entries)


def check_installed(settings: Settings) -> None:
    """Raise PluginNotFound for a backend or hook, ConfigError for a table of no backend."""
    for kind in KINDS:
        _check(kind, getattr(settings, kind), names(kind), settings.source)
    check_backend_tables(settings)
    check_query(settings)
    hooks = names("hooks")
    for election in settings.elections:
        for hook in election.hooks:
            _check("hooks", hook.use, hooks, hook.where)


def _check(group: str, name: str, installed: frozenset[str], where: str) -> None:
    if name not in installed:
        raise PluginNotFound(f"{where}: {not_installed(group, name, installed)}")


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


def check_query(settings: Settings) -> None:
    """Refuse a query that could never answer: its backend does not know the instances.

    A query is resolved among the instances of its own backend's registry. Only a backend
    that has no registry of its own can be meant to answer for another's.
    """
    if settings.query == settings.registry or settings.query not in names("registry"):
        return
    for election in settings.elections:
        if election.query:
            raise ConfigError(
                f"{settings.source}: query = {settings.query!r} answers with instances that are "
                f"registered in {settings.query!r}, but registry = {settings.registry!r}: the "
                f"query {election.query!r} would answer with nobody; set query = "
                f"{settings.registry!r}"
            )


def unused_backends(settings: Settings) -> Iterator[str]:
    """Return the names of tables that nothing uses at present."""
    used = {settings.lock, settings.registry, settings.query}
    yield from sorted(set(settings.backends) - used)
