"""``python -m leadertag.hooks.worker FD``: runs hooks for the daemon, one after the other.

Each request says everything: which hook by its entry-point name, its settings, and the
role change. Only the hooks' objects are kept between requests. When the daemon is gone
in the middle of one, the worker ends itself and all that the hook started: nobody would
hold it to its time limit any more, and a successor may be acting already.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

from leadertag.errors import HookError, LeaderTagError
from leadertag.hooks import processes
from leadertag.hooks.loading import LoadedHook
from leadertag.hooks.wire import Channel, Message, decode_change
from leadertag.hookspecs import HookEvent
from leadertag.plugins import load_hook

# How often a busy worker looks whether its parent is still the daemon. The closed
# channel tells at once, unless a fork of the daemon keeps it open.
_PARENT_INTERVAL = 0.25
# An orphan whose hook never lets go of the interpreter is ended this long after its limit.
_ORPHAN_GRACE = 1.0
_MOMENT = 0.001


class Worker:
    """The main thread runs hooks; another one reads, and watches over the daemon."""

    def __init__(self, channel: Channel, parent: int) -> None:
        self._channel = channel
        self._parent = parent
        self._requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._hooks: dict[str, LoadedHook] = {}
        self._busy = False

    def serve(self) -> None:
        """Answer requests until the process is ended."""
        processes.listen(self._group_changed)
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while True:
            request = self._requests.get()
            if request["do"] == "preload":
                # The daemon's, so that the same plugins are found here as there.
                sys.path[:] = request["path"]
                _preload(request["hooks"])
                self._channel.send({"ready": True})
            else:
                self._answer(request)

    # -- the reading thread --------------------------------------------------------------

    def _read(self) -> None:
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        while True:
            ready = poller.poll(_PARENT_INTERVAL * 1000 if self._busy else None)
            if os.getppid() != self._parent:
                self._end()
            if not ready:
                continue
            try:
                messages = self._channel.receive()
            except (EOFError, OSError, ValueError):
                self._end()
            for message in messages:
                self._busy = self._busy or message["do"] == "call"
                self._requests.put(message)

    def _end(self) -> None:
        """End this process, and in the middle of a hook all that the hook has started.

        What a hook left running when it was done is meant to stay.
        """
        if self._busy:
            processes.end_children()
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
        os._exit(0)

    # -- the main thread -----------------------------------------------------------------

    def _group_changed(self, group: int, running: bool) -> None:
        self._channel.send({"group": group, "running": running})

    def _answer(self, request: Message) -> None:
        # At least a moment, since 0 would mean no limit; the daemon ends what is overdue.
        limit = max(_MOMENT, request["deadline"] - time.monotonic())
        request["change"]["timeout"] = limit
        self._channel.send({"began": True})
        faulthandler.dump_traceback_later(limit + _ORPHAN_GRACE, exit=True)
        try:
            reply = self._call(request)
        except HookError as error:
            reply = {"ok": False, "message": str(error)}
        except BaseException as error:  # noqa: BLE001 - a hook may raise anything, SystemExit too
            if not isinstance(error, LeaderTagError):
                traceback.print_exc()
            reply = {"ok": False, "message": f"{type(error).__name__}: {error}"}
        finally:
            faulthandler.cancel_dump_traceback_later()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        self._busy = False
        self._channel.send(reply)

    def _call(self, request: Message) -> Message:
        change = decode_change(request["change"])
        result = self._hook(request).call(change)
        rank = _rank(result) if change.event is HookEvent.RANK else None
        return {"ok": True, "message": "", "rank": rank}

    def _hook(self, request: Message) -> LoadedHook:
        options: dict[str, Any] = request["options"]
        key = json.dumps([request["use"], options], sort_keys=True)
        if key not in self._hooks:
            self._hooks[key] = LoadedHook(request["use"], request["where"], options)
        return self._hooks[key]


def _rank(result: Any) -> int:
    if not isinstance(result, int) or isinstance(result, bool) or result < 0:
        raise HookError(f"leadertag_rank must return a whole number from 0 up, not {result!r}")
    return result


def _preload(names: list[str]) -> None:
    """Import the hooks' classes ahead of need; one that fails says so when it is called."""
    for name in names:
        try:
            preload = getattr(load_hook(name), "preload", None)
            if preload:
                preload()
        except Exception:  # noqa: BLE001 - whatever a plugin's import raises
            traceback.print_exc()


def _carry_on(_number: int, _frame: FrameType | None) -> None:
    """Take a signal without acting on it."""


def main() -> None:
    """Serve on the inherited socket whose descriptor is the first argument."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    # systemd sends SIGTERM to every process of a unit at once: the daemon still needs its
    # workers to demote. A handler and not SIG_IGN, which commands would inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _carry_on)
    end = socket.socket(fileno=fd)
    end.set_inheritable(False)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    Worker(Channel(end), parent).serve()


if __name__ == "__main__":
    main()
