"""Runs the hooks of one election."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from leadertag.config.settings import HookSettings
from leadertag.errors import ConfigError, did_you_mean
from leadertag.hooks.loading import LoadedHook, Redactor
from leadertag.hooks.outcome import Outcome
from leadertag.hooks.pool import WorkerPool
from leadertag.hooks.wire import Message, encode_change
from leadertag.hooks.workers import CallOverdue, Lane, WorkerLost, WorkerProcess
from leadertag.hookspecs import HookEvent, Probe, RoleChange
from leadertag.model import Instance

__all__ = ["HookRunner", "WorkerPool"]

_log = logging.getLogger("leadertag.hooks")

INFORMATIONAL = frozenset({HookEvent.ROLE_CHANGED, HookEvent.LEADER_CHANGED})
# What gives up the leadership ends what is weaker: it never waits for it.
_STRENGTH = {HookEvent.DEMOTE: 1, HookEvent.FENCE: 2}
_DEFAULT_LIMIT = 10.0
# A hook that keeps the time limit itself ends in order, and its worker stays warm.
_MARGIN, _MARGIN_SHARE = 0.05, 0.05
_OUTPUT_KEPT = 8 * 1024
_MESSAGE_KEPT = 400


class HookRunner:
    """Runs the hooks of one election: one at a time, in order, each in isolation and with
    a time limit.

    Two lanes go side by side. Actions (``before_promote``, ``promote``, ``verify``, ``demote``,
    ``fence``, ``follow``, ``rank``) run one at a time; a ``demote`` ends whatever other
    action is running or waiting, a ``fence`` ends a ``demote`` too, as :meth:`cancel` would.
    Informational hooks (``role_changed``, ``leader_changed``) run one at a time in the
    order in which they were asked for, on workers of their own: no action ever waits for
    them, and nothing but their time limit ends one early.
    """

    def __init__(self, election: str, hooks: Sequence[HookSettings], pool: WorkerPool) -> None:
        """Load and check the hooks; raises ConfigError or PluginError in one line."""
        self._election = election
        self._pool = pool
        self._hooks = [_Hook(settings) for settings in hooks]
        self._lanes = {lane: _Turns() for lane in Lane}
        for hook in self._hooks:
            for event in hook.events - {HookEvent.PROBE}:
                pool.announce(_lane(event), hook.settings.use)

    def handles(self, event: HookEvent) -> bool:
        """Whether any hook of the configuration handles the event."""
        return any(event in hook.events for hook in self._hooks)

    def budget(self, event: HookEvent) -> float:
        """Return the sum of the limits, in seconds, of the hooks that handle the event."""
        return math.fsum(hook.limit(event) for hook in self._hooks if event in hook.events)

    def run(self, change: RoleChange) -> Outcome:
        """Run the hooks of ``change.event``; blocks, from any thread; never raises.

        Each is bounded by its own limit, and all together, waiting for their turn included,
        by ``change.timeout`` when that is above 0; at a limit the hook is killed with all it
        started. A failure does not keep the others from running, but the first veto of
        ``before_promote`` ends it. Each hook is told the time that it has.
        """
        started = time.monotonic()
        deadline = started + change.timeout if change.timeout > 0 else math.inf
        call = _Call(_STRENGTH.get(change.event, 0), self._pool)
        try:
            with self._lanes[_lane(change.event)].turn(call, deadline) as in_time:
                replies = self._run_all(change, deadline, call, in_time=in_time)
        except Exception as error:  # noqa: BLE001 - the caller is the loop that must go on
            _log.exception("%s: running the hooks of %s failed", self._election, change.event)
            replies = [{"ok": False, "message": f"{change.event}: {type(error).__name__}: {error}"}]
        failures = [str(reply["message"]) for reply in replies if not reply["ok"]]
        ranks = [reply["rank"] for reply in replies if reply.get("rank") is not None]
        return Outcome(
            ok=not failures,
            message=failures[0] if failures else "",
            rank=min(ranks, default=None),
            seconds=time.monotonic() - started,
            cancelled=bool(failures) and call.cancelled,
        )

    def cancel(self) -> None:
        """End the action that is running, and those waiting for it, early.

        Informational hooks go on. No effect when nothing runs.
        """
        self._lanes[Lane.ACTION].cancel()

    def open_probe(self, instance: Instance) -> Probe | None:
        """Open the probe of the first configured hook that has one; it runs in this process.

        Raises HookError or ConfigError when that hook cannot open it.
        """
        for hook in self._hooks:
            if HookEvent.PROBE in hook.events:
                return hook.loaded.probe(self._election, instance)
        return None

    def close(self) -> None:
        """End what is running, informational hooks too. The pool is closed by its owner."""
        for turns in self._lanes.values():
            turns.cancel()

    # -- one hook ------------------------------------------------------------------------

    def _run_all(
        self, change: RoleChange, deadline: float, call: _Call, *, in_time: bool
    ) -> list[Message]:
        replies: list[Message] = []
        for hook in self._hooks:
            if change.event not in hook.events:
                continue
            if call.cancelled:
                replies.append(hook.failure(change, "ended early"))
            elif not in_time:
                replies.append(hook.failure(change, "no time was left after the hooks before it"))
            else:
                replies.append(self._run(hook, change, deadline, call))
            if change.event is HookEvent.BEFORE_PROMOTE and not replies[-1]["ok"]:
                break
        return replies

    def _run(self, hook: _Hook, change: RoleChange, deadline: float, call: _Call) -> Message:
        started = time.monotonic()
        limit = hook.limit(change.event)
        lane = _lane(change.event)
        # An action must be done in time, so waiting for a worker counts; a message to
        # somebody may be late, and should not be lost for the slowness of others.
        if lane is Lane.ACTION:
            deadline = min(deadline, started + limit)
        output = _Output()
        for last in (False, True):
            worker = self._pool.take(lane, deadline, call.is_cancelled)
            if lane is Lane.INFORMATION:
                deadline = min(deadline, time.monotonic() + limit)
            if worker is None:
                problem = "ended early" if call.cancelled else "no worker process was free in time"
                return hook.failure(change, problem)
            try:
                reply = self._call(worker, hook, change, deadline, call, output)
            except WorkerLost as error:
                reply = hook.failure(change, f"its worker process was lost ({error})")
                # An idle worker may have died unseen; then the hook has not run yet.
                if not (error.began or last):
                    continue
            finally:
                self._pool.give(worker)
            break
        _report(hook, change, reply, output, time.monotonic() - started)
        return reply

    def _call(
        self,
        worker: WorkerProcess,
        hook: _Hook,
        change: RoleChange,
        deadline: float,
        call: _Call,
        output: _Output,
    ) -> Message:
        rest = max(0.0, deadline - time.monotonic())
        if not call.attach(worker):
            return hook.failure(change, "ended early")
        try:
            reply = worker.call(
                hook.request(change, deadline - min(_MARGIN, rest * _MARGIN_SHARE)),
                deadline,
                output.add,
            )
        except CallOverdue:
            worker.end()
            return hook.failure(change, f"killed after {rest:.2f} s, its time limit")
        except WorkerLost:
            if call.cancelled:
                return hook.failure(change, "ended early")
            raise
        finally:
            call.detach()
        if not reply["ok"]:
            return hook.failure(change, str(reply["message"]))
        return reply


class _Hook:
    """One hook of the configuration: its settings, checked, and what it handles."""

    def __init__(self, settings: HookSettings) -> None:
        self.settings = settings
        self.loaded = LoadedHook(settings.use, settings.where, settings.options)
        self.redactor = Redactor(settings.options)
        self._options = _plain(settings)
        if settings.events is None:
            self.events = self.loaded.events - self.loaded.when_named
            return
        for event in sorted(settings.events - self.loaded.events):
            known = sorted(self.loaded.events)
            raise ConfigError(
                f"{settings.where}: events: the hook {settings.use!r} does not handle "
                f"{event.value!r}{did_you_mean(event.value, known)} (it handles {', '.join(known)})"
            )
        self.events = settings.events

    def limit(self, event: HookEvent) -> float:
        return self.settings.timeouts.get(event, _DEFAULT_LIMIT)

    def request(self, change: RoleChange, deadline: float) -> Message:
        """Return what a worker is told; CLOCK_MONOTONIC is the same for all processes."""
        return {
            "do": "call",
            "use": self.settings.use,
            "where": self.settings.where,
            "options": self._options,
            "deadline": deadline,
            "change": encode_change(change),
        }

    def failure(self, change: RoleChange, problem: str) -> Message:
        """Return the reply of a hook that failed: who, what, why, in one line."""
        line = " ".join(self.redactor.clean(problem).split())
        if len(line) > _MESSAGE_KEPT:
            line = line[: _MESSAGE_KEPT - 1] + "…"
        text = f"{self.settings.where}: {self.settings.use}: {change.event} failed: {line}"
        return {"ok": False, "message": text}


def _plain(settings: HookSettings) -> Any:
    """Return the options as they arrive in a worker; refuse what JSON cannot carry."""
    try:
        return json.loads(json.dumps(dict(settings.options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{settings.where}: a hook's option cannot be passed on: {error}"
        ) from None


def _lane(event: HookEvent) -> Lane:
    return Lane.INFORMATION if event in INFORMATIONAL else Lane.ACTION


class _Call:
    """One ``run``, as others may end it."""

    def __init__(self, strength: int, pool: WorkerPool) -> None:
        self.strength = strength
        self.cancelled = False
        self._pool = pool
        self._worker: WorkerProcess | None = None
        self._lock = threading.Lock()

    def is_cancelled(self) -> bool:
        return self.cancelled

    def attach(self, worker: WorkerProcess) -> bool:
        """Bind the worker that a cancellation must end; ``False`` when there was one."""
        with self._lock:
            if not self.cancelled:
                self._worker = worker
            return not self.cancelled

    def detach(self) -> None:
        with self._lock:
            self._worker = None

    def cancel(self) -> None:
        # Ended under the lock: once detached, the worker may be running another's hook.
        with self._lock:
            self.cancelled = True
            if self._worker:
                self._worker.kill()
        self._pool.wake()


class _Turns:
    """Lets calls run one at a time, first come first served."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, call: _Call, deadline: float) -> Iterator[bool]:
        """Wait for the call's turn, ending weaker ones; tell whether it came in time."""
        with self._changed:
            weaker = [other for other in self._calls if other.strength < call.strength]
            self._calls.append(call)
        self._end(weaker)
        try:
            with self._changed:
                in_time = self._changed.wait_for(
                    lambda: call.cancelled or self._calls[0] is call, _rest(deadline)
                )
            yield in_time and not call.cancelled
        finally:
            with self._changed:
                self._calls.remove(call)
                self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            calls = list(self._calls)
        self._end(calls)

    def _end(self, calls: list[_Call]) -> None:
        for call in calls:
            call.cancel()
        with self._changed:
            self._changed.notify_all()


def _rest(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


class _Output:
    """The end of what a hook wrote."""

    def __init__(self) -> None:
        self._kept = b""
        self._dropped = False

    def add(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > _OUTPUT_KEPT:
            self._kept, self._dropped = self._kept[-_OUTPUT_KEPT:], True

    def lines(self) -> list[str]:
        lines = self._kept.decode(errors="replace").splitlines()
        return ["(earlier output was dropped)", *lines[1:]] if self._dropped else lines


def _report(
    hook: _Hook, change: RoleChange, reply: Message, output: _Output, seconds: float
) -> None:
    level = logging.INFO if reply["ok"] else logging.WARNING
    name = f"{change.election}: {hook.settings.use}: {change.event}"
    for line in output.lines():
        _log.log(level, "%s: | %s", name, hook.redactor.clean(line))
    if reply["ok"]:
        _log.info("%s: done in %.3f s", name, seconds)
    else:
        _log.warning("%s, after %.3f s", reply["message"], seconds)
