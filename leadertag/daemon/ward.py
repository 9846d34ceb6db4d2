"""The daemon's side of the guardian: starts it, feeds it, starts it again if it died."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace

from leadertag.config.settings import Settings
from leadertag.daemon import watchdog
from leadertag.daemon.rescue import pack
from leadertag.errors import ConfigError
from leadertag.scheduler.member import Hold

log = logging.getLogger(__name__)
PIPE = 1 << 20
"""Bytes that the pipe holds: several of the longest messages (thousands of elections)."""


class Ward:
    """One guardian process. Only the scheduler's loop calls it, but for start and end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watchdog = watchdog.plan(settings)
        self._last: Sequence[Hold] = ()
        self._pipe = -1
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start one that knows everything from birth: it may be needed before another word."""
        reading, writing = os.pipe()
        me = os.pidfd_open(os.getpid())
        try:
            with suppress(OSError):  # a user may have used up the room for pipes
                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
            os.set_blocking(writing, False)
            old, self._pipe = self._pipe, writing
            if old >= 0:
                os.close(old)
            setup: dict[str, object] = {"setup": pack(self._settings)}
            if self._watchdog is not None:
                setup["watchdog"] = asdict(self._watchdog)
            self._send({**setup, **_message(self._last)})
            return subprocess.Popen(
                # A session of its own: what is sent to the daemon's group must not reach it.
                [sys.executable, "-P", "-m", "leadertag.daemon.guardian", str(me)],
                stdin=reading, start_new_session=True, pass_fds=[me],
            )  # fmt: skip
        finally:
            os.close(me)
            os.close(reading)

    def check(self, settings: Settings) -> None:
        """Refuse changed settings that only another guardian could follow; raises ConfigError."""
        if watchdog.plan(settings) != self._watchdog:
            raise ConfigError(
                f"{settings.source}: watchdog, or the lease that its time-out follows, has "
                "changed: that needs a restart"
            )

    def change(self, settings: Settings) -> None:
        """Take over changed settings (reload).

        An election that is not in them any more is still being given up: the guardian has to
        be able to do that too.
        """
        names = {election.name for election in settings.elections}
        gone = {hold.election for hold in self._last} - names
        kept = tuple(e for e in self._settings.elections if e.name in gone)
        self._settings = replace(settings, elections=(*settings.elections, *kept))
        self._tell({"setup": pack(self._settings)})

    def hold(self, holds: Sequence[Hold]) -> None:
        """Tell until when each leadership may go on without another word."""
        if not holds and not self._last:
            return
        self._last = holds
        self._tell(_message(holds))

    def end(self, *, keep: bool) -> None:
        """Let the guardian go; with ``keep`` it watches over what the process leaves."""
        if keep:
            return
        self._send({"bye": True})
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, message: dict[str, object]) -> None:
        if self._process.poll() is None and self._send(message):
            return
        status = self._process.poll()
        how = "does not listen" if status is None else f"ended with status {status}"
        log.warning("the guardian %s; starting another", how)
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def _send(self, message: dict[str, object]) -> bool:
        """Send a line without ever blocking: a stopped guardian must not stop the daemon."""
        data = json.dumps(message).encode() + b"\n"
        try:
            return os.write(self._pipe, data) == len(data)
        except OSError:  # gone, or its pipe is full
            return False


def _message(holds: Sequence[Hold]) -> dict[str, object]:
    return {
        "prepare": min((hold.prepare_at for hold in holds), default=0.0),
        "holds": [(h.election, h.member, h.strike_at, h.writers, h.gives_up) for h in holds],
        "ends": {hold.election: hold.ends_at for hold in holds},
    }
