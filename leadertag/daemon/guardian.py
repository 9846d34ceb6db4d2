"""The guardian: a small process that ends a leadership when the daemon cannot.

The daemon tells it, with every confirmation, until when each leadership may go on without
another word. When that time has come - the daemon was killed, stopped, or hangs - the
guardian first makes sure of that (SIGKILL through a pidfd, then it waits), and only then
gives up in its place: closes the gate, takes the tag off, demotes, releases. A leadership
that the daemon was giving up when it ended has no time to lose: it is given up at once.

A daemon that is back before that time has taken the member's lock file, and the guardian
leaves it alone: that is what makes restarts free of role changes. Nothing but the standard
library is imported until there is trouble, so that a guardian costs next to nothing.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from leadertag.daemon.ending import end_daemon, pid_of
from leadertag.daemon.held import Held

IDLE = 60.0
"""Seconds between two looks when nothing is held."""


def now() -> float:
    """Return the time that deadlines are told in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Guardian:
    """Reads the daemon's messages; strikes when a deadline passes."""

    def __init__(self, parent: int, channel: int) -> None:
        """``parent`` is a pidfd: made by the daemon itself, it is right however soon it dies."""
        self._parent, self._pid = parent, pid_of(parent)
        self._channel = channel
        self._buffer = b""
        self._open = True
        """The daemon lives, as far as is known."""
        self._setup = ""
        self._holds: list[Held] = []
        self._prepare_at = 0.0
        self._rescuer: Any = None
        self._watchdog: Any = None

    def run(self) -> int:
        """Watch over the daemon until it says goodbye or is gone; returns an exit code."""
        while True:
            for message in self._messages(self._patience()):
                if message.get("bye"):
                    return self._end(0)
                self._take(message)
            if not self._holds:
                if not self._open:
                    return self._end(0)
                continue
            if self._rescuer is None and (not self._open or now() >= self._prepare_at):
                self._prepare()
                continue  # that took its time: there may be word meanwhile
            if now() >= self._next_due() and not self._word():
                return self._end(self._strike())

    # -- what is due ---------------------------------------------------------------------

    def _due_at(self, hold: Held) -> float:
        return 0.0 if hold.gives_up and not self._open else hold.strike_at

    def _next_due(self) -> float:
        """Return when the next leadership has to be ended; infinity where none is left."""
        return min(map(self._due_at, self._holds), default=math.inf)

    def _take_due(self) -> list[Held]:
        """Return those that have to be ended now; a restart may still save the others."""
        due = [hold for hold in self._holds if now() >= self._due_at(hold)]
        self._holds = [hold for hold in self._holds if hold not in due]
        return due

    # -- messages ------------------------------------------------------------------------

    def _word(self) -> bool:
        """Whether the daemon has said something that was not read yet."""
        return self._open and bool(select.select([self._channel], [], [], 0)[0])

    def _patience(self) -> float:
        if not self._holds:
            return IDLE
        next_at = self._next_due()
        if self._rescuer is None:
            next_at = min(next_at, self._prepare_at)
        return min(IDLE, max(0.0, next_at - now()))

    def _messages(self, timeout: float) -> Iterator[dict[str, Any]]:
        if not self._open:
            time.sleep(timeout)
            return
        if not select.select([self._channel], [], [], timeout)[0]:
            return
        data = os.read(self._channel, 1 << 20)
        if not data:
            self._open = False  # the daemon has ended, without a goodbye
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = _decode(line)
            if message is None:
                # Ended by this, it would watch over nothing; told nothing, it strikes in time.
                print("guardian: a message that is none was left out", file=sys.stderr)
            else:
                yield message

    def _take(self, message: dict[str, Any]) -> None:
        if "setup" in message:
            self._setup, self._rescuer = message["setup"], None
        if "holds" in message:
            self._holds = [Held(*hold) for hold in message["holds"]]
            self._prepare_at = message["prepare"]
        if "watchdog" in message and self._watchdog is None:
            from leadertag.daemon.watchdog import Feeder, Plan

            self._watchdog = Feeder(Plan(**message["watchdog"]))
        if self._watchdog is not None and "ends" in message:
            self._watchdog.led(message["ends"])

    def _prepare(self) -> None:
        """Get ready while there is time: import, connect, start the hooks' workers."""
        if self._rescuer is None:
            from leadertag.daemon.rescue import Rescuer

            self._rescuer = Rescuer.of(self._setup)

    def _strike(self) -> int:
        """End the daemon, and each leadership when its own time has come."""
        self._prepare()
        end_daemon(self._parent, self._pid)
        self._open = False
        return int(self._rescuer.rescue(self._take_due, self._next_due, self._ended))

    def _ended(self, election: str) -> None:
        if self._watchdog is not None:
            self._watchdog.lift(election)

    def _end(self, status: int) -> int:
        """End in order: the watchdog is disarmed, as it is not by any other end."""
        if self._watchdog is not None:
            self._watchdog.close()
        return status


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return a message of the daemon's, ``None`` for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("setup", ""), str):
        return None
    if not _fits_watchdog(message.get("watchdog", {}), message.get("ends", {})):
        return None
    if "holds" not in message:
        return message
    holds = message["holds"]
    fits = isinstance(holds, list) and all(map(_is_hold, holds))
    return message if fits and _is_time(message.get("prepare")) else None


def _is_hold(hold: Any) -> bool:
    """Whether it is what makes a :class:`Held`."""
    if not isinstance(hold, list) or len(hold) != len(Held._fields):
        return False
    election, member, strike_at, writers, gives_up = hold
    named = isinstance(election, str) and isinstance(member, str)
    told = isinstance(writers, list) and isinstance(gives_up, bool)
    return named and told and _is_time(strike_at)


def _fits_watchdog(plan: Any, ends: Any) -> bool:
    """Whether it is a plan, or nothing, and until when each election is led at most."""
    if not isinstance(plan, dict) or not isinstance(ends, dict):
        return False
    kinds = {"path": str, "timeout": int, "lock": str}
    whole = {key: type(value) for key, value in plan.items()} in ({}, kinds)
    return whole and all(map(_is_time, ends.values()))


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 2**63 and math.isfinite(value)


def main() -> int:
    """``python -m leadertag.daemon.guardian PIDFD``; messages on standard input."""
    # What ends the daemon's group must not end the guardian: only a goodbye does.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return Guardian(int(sys.argv[1]), sys.stdin.fileno()).run()


if __name__ == "__main__":
    sys.exit(main())
