"""The three providers that a configuration names, made and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from leadertag.config.installed import check_backend_tables, check_query
from leadertag.config.settings import Settings
from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag.hostbound import HostBoundLock, is_host_bound
from leadertag.plugins import load_provider
from leadertag.providers import (
    BackendContext,
    LockProvider,
    QueryProvider,
    RegistryProvider,
    SelfRegistered,
)


@dataclass(frozen=True, slots=True)
class Providers:
    """One lock, one registry and one query provider, of one backend or of several."""

    lock: LockProvider
    registry: RegistryProvider
    query: QueryProvider
    lock_backend: str
    registry_backend: str
    query_backend: str

    def close(self) -> None:
        """Give back all connections."""
        for provider in (self.query, self.registry, self.lock):
            provider.close()


def open_providers(
    settings: Settings, *, own_checks: tuple[str, ...] = (), environ: Mapping[str, str]
) -> Providers:
    """Load and make the providers; those of one backend share their client.

    Raises PluginError for a backend that cannot be used, ConfigError for its settings and
    for elections that these backends cannot hold. Nothing is sent yet.
    """
    check_backend_tables(settings)
    check_query(settings)
    contexts: dict[str, BackendContext] = {}

    def context(backend: str) -> BackendContext:
        if backend not in contexts:
            variables = settings.origins.get(backend)
            where = f"{settings.source}: backends.{backend}"
            where += f" (with {variables})" if variables else ""
            table = Table(settings.backends.get(backend, {}), where)
            contexts[backend] = BackendContext(table, environ, own_checks, settings.owner)
        return contexts[backend]

    lock = cast(LockProvider, load_provider("lock", settings.lock).create(context(settings.lock)))
    registry = cast(
        RegistryProvider,
        load_provider("registry", settings.registry).create(context(settings.registry)),
    )
    query = load_provider("query", settings.query).create(context(settings.query))
    check_compat(settings, lock)
    if is_host_bound(lock, registry):
        lock = HostBoundLock(lock, registry, settings.lock, settings.registry)
    return Providers(
        lock, registry, cast(QueryProvider, query),
        settings.lock, settings.registry, settings.query,
    )  # fmt: skip


def check_instances(settings: Settings, registry: RegistryProvider) -> None:
    """Refuse elections whose own instance nobody could register; raises ConfigError.

    For whoever is going to take part: a mere look at an election needs no instance.
    """
    for election in settings.elections:
        if isinstance(registry, SelfRegistered) and election.instance is None:
            raise ConfigError(
                f"{election.where}: registry = {settings.registry!r} knows no instance by itself: "
                f"describe the own one in a table [elections.{election.name}.instance]"
            )


def check_compat(settings: Settings, lock: LockProvider) -> None:
    """Refuse to share elections with a predecessor that this lock's backend never had."""
    for election in settings.elections:
        if election.compat and type(lock).guard is LockProvider.guard:
            raise ConfigError(
                f"{election.where}: compat = {election.compat!r}: the lock's backend "
                f"{settings.lock!r} has no such predecessor"
            )
