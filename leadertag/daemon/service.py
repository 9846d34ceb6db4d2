"""``leadertag run``: the daemon, for all elections of the configuration.

SIGTERM ends it, keeping its leaderships for a restart or giving them up as ``on_stop``
says; SIGINT (Ctrl-C) always gives them up; SIGHUP reads the configuration anew. One
election's trouble is never another's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leadertag.backends import Providers, check_instances, open_providers
from leadertag.config.settings import Settings
from leadertag.daemon import watchdog
from leadertag.daemon.control import ControlSocket
from leadertag.daemon.notify import notify
from leadertag.daemon.ward import Ward
from leadertag.errors import LeaderTagError
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.scheduler import Scheduler, SystemClock

log = logging.getLogger(__name__)
WORKERS = 2
"""Warm worker processes for hooks."""
WARM_WITHIN = 5.0
"""Seconds that they have to get warm before leadertag goes on without."""


def run(load: Callable[[], Settings]) -> int:
    """Run until a signal ends it. Returns 0, or 1 when something could not be ended in order."""
    settings = load()
    providers = open_providers(settings, environ=os.environ)
    pool = WorkerPool(WORKERS)
    hooks: dict[str, HookRunner] = {}
    try:
        check_instances(settings, providers.registry)
        hooks.update(make_hooks(settings, pool))
        pool.warm()
        return _serve(load, settings, providers, hooks, pool)
    finally:
        for runner in hooks.values():
            runner.close()
        pool.close()
        providers.close()


def make_hooks(settings: Settings, pool: WorkerPool) -> dict[str, HookRunner]:
    """Return each election's hooks, by the election's name."""
    return {e.name: HookRunner(e.name, e.hooks, pool) for e in settings.elections}


def socket_path(settings: Settings) -> str:
    """Return where this daemon's control socket is: a path short enough for the kernel."""
    keys = "\n".join(sorted(e.key + e.instance_id for e in settings.elections))
    name = hashlib.sha256(f"{keys}\n{os.getpid()}".encode()).hexdigest()[:12]
    return str(Path(settings.state_dir) / f"{name}.sock")


def _serve(
    load: Callable[[], Settings], settings: Settings, providers: Providers,
    hooks: Mapping[str, HookRunner], pool: WorkerPool,
) -> int:  # fmt: skip
    path = socket_path(settings)
    if (wanted := watchdog.plan(settings)) is not None:
        watchdog.try_out(wanted)
    ward = Ward(settings)
    scheduler = Scheduler(settings, providers, hooks, SystemClock(), socket=path, overseer=ward)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if question.get("verb") != "status":
            return {"error": "the one verb is status"}
        return {"pid": os.getpid(), "elections": scheduler.describe()}

    control = ControlSocket(path, answer)

    def on_end(number: int, _: object) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        notify("STOPPING=1")
        scheduler.stop(keep=False if number == signal.SIGINT else None)

    def on_hangup(_: int, __: object) -> None:
        scheduler.call(lambda: _reload(load, scheduler, pool, ward))

    signal.signal(signal.SIGTERM, on_end)
    signal.signal(signal.SIGINT, on_end)
    signal.signal(signal.SIGHUP, on_hangup)
    try:
        # Before anything is adopted: what a restart cannot demote in time its guardian still can.
        if not pool.wait_warm(WARM_WITHIN):
            log.warning("the hooks' workers are not ready after %g s", WARM_WITHIN)
        notify("READY=1")
        return 0 if scheduler.run() else 1
    finally:
        ward.end(keep=scheduler.holds)
        control.close()


def _reload(
    load: Callable[[], Settings], scheduler: Scheduler, pool: WorkerPool, ward: Ward
) -> None:
    """Take over a changed configuration; a wrong one changes nothing."""
    notify("RELOADING=1")
    try:
        settings = load()
        ward.check(settings)
        scheduler.reload(settings, make_hooks(settings, pool))
        ward.change(settings)
        log.info("the configuration was read anew")
    except LeaderTagError as error:
        log.error("reload: %s; everything stays as it was", error)
    except Exception:  # whatever a reload does, it must not cost a leadership
        log.exception("reload failed in an unforeseen way; everything stays as it was")
    notify("READY=1")
