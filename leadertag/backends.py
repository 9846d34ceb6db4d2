"""The three providers that a configuration names, made and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from leadertag.config.installed import check_backend_tables
from leadertag.config.settings import Settings
from leadertag.config.table import Table
from leadertag.plugins import load_provider
from leadertag.providers import BackendContext, LockProvider, QueryProvider, RegistryProvider


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

    Raises PluginError for a backend that cannot be used and ConfigError for its settings.
    Nothing is sent yet.
    """
    check_backend_tables(settings)
    contexts: dict[str, BackendContext] = {}

    def context(backend: str) -> BackendContext:
        if backend not in contexts:
            variables = settings.origins.get(backend)
            where = f"{settings.source}: backends.{backend}"
            where += f" (with {variables})" if variables else ""
            table = Table(settings.backends.get(backend, {}), where)
            contexts[backend] = BackendContext(table, environ, own_checks)
        return contexts[backend]

    lock = load_provider("lock", settings.lock).create(context(settings.lock))
    registry = load_provider("registry", settings.registry).create(context(settings.registry))
    query = load_provider("query", settings.query).create(context(settings.query))
    return Providers(
        cast(LockProvider, lock), cast(RegistryProvider, registry), cast(QueryProvider, query),
        settings.lock, settings.registry, settings.query,
    )  # fmt: skip
