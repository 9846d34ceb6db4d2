"""The hooks of some elections, loaded but not started: for verbs that only look at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from leadertag.config.settings import ElectionSettings
from leadertag.hooks.runner import HookRunner, WorkerPool


@contextmanager
def hook_runners(elections: Iterable[ElectionSettings]) -> Iterator[Mapping[str, HookRunner]]:
    """Yield each election's hooks by its name. No worker process is started.

    Raises ConfigError or PluginError for a hook that cannot be used.
    """
    pool = WorkerPool(1)
    runners: dict[str, HookRunner] = {}
    try:
        for election in elections:
            runners[election.name] = HookRunner(election.name, election.hooks, pool)
        yield runners
    finally:
        for runner in runners.values():
            runner.close()
        pool.close()
