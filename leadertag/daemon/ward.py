"""The daemon's side of the guardian: starts it, feeds it, starts it again if it died."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence

from leadertag.config.settings import Settings
from leadertag.daemon.rescue import pack
from leadertag.scheduler.member import Hold

log = logging.getLogger(__name__)
PIPE = 1 << 20
"""Bytes that the pipe holds: several of the longest messages (thousands of elections)."""


class Ward:
    """One guardian process. Only the scheduler's loop calls it, but for start and end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: Sequence[Hold] = ()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        me = os.pidfd_open(os.getpid())
        try:
            process = subprocess.Popen(
                # A session of its own: what is sent to the daemon's group must not reach it.
                [sys.executable, "-P", "-m", "leadertag.daemon.guardian", str(me)],
                stdin=subprocess.PIPE, start_new_session=True, pass_fds=[me],
            )  # fmt: skip
        finally:
            os.close(me)
        assert process.stdin is not None
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE)
        os.set_blocking(process.stdin.fileno(), False)
        self._send(process, {"setup": pack(self._settings)})
        return process

    def change(self, settings: Settings) -> None:
        """Take over changed settings (reload)."""
        self._settings = settings
        self._tell({"setup": pack(settings)})

    def hold(self, holds: Sequence[Hold]) -> None:
        """Tell until when each leadership may go on without another word."""
        if not holds and not self._last:
            return
        self._last = holds
        self._tell({
            "prepare": min((hold.prepare_at for hold in holds), default=0.0),
            "holds": [(h.election, h.member, h.strike_at, h.writers) for h in holds],
        })  # fmt: skip

    def end(self, *, keep: bool) -> None:
        """Let the guardian go; with ``keep`` it watches over what the process leaves."""
        if keep:
            return
        self._send(self._process, {"bye": True})
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, message: dict[str, object]) -> None:
        if self._send(self._process, message):
            return
        status = self._process.poll()
        how = "does not listen" if status is None else f"ended with status {status}"
        log.warning("the guardian %s; starting another", how)
        self._process.kill()
        self._process.wait()
        self._process = self._start()
        self._send(self._process, message)

    def _send(self, process: subprocess.Popen[bytes], message: dict[str, object]) -> bool:
        """Send a line without ever blocking: a stopped guardian must not stop the daemon."""
        assert process.stdin is not None
        data = json.dumps(message).encode() + b"\n"
        try:
            return os.write(process.stdin.fileno(), data) == len(data)
        except OSError:  # gone, or its pipe is full
            return False
