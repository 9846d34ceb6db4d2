"""kazoo's way to the network, with a say in whether a connection is made, and kept.

kazoo keeps a session alive by itself, for as long as its threads run, and cannot leave a
server without ending the session. leadertag needs both otherwise: a session lives while
somebody asks for it, and outlives the process that left it. A handler is kazoo's own
extension point for that: every connection, and every wait on one, goes through it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler


def _always() -> bool:
    return True


class Door(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """Refuses, by an OSError, what kazoo then takes for a broken connection."""

    def __init__(self, patience: float) -> None:
        """``patience``: seconds for one attempt to connect."""
        super().__init__()
        self._patience = patience
        self._mutex = threading.Lock()
        self._socket: socket.socket | None = None
        self._locked = False
        self.may_enter: Callable[[], bool] = _always
        """Asked before each connection is made, on kazoo's thread."""
        self.may_stay: Callable[[], bool] = _always
        """Asked at every wait, so at the latest before each ping."""

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, unless that is refused."""
        if not self.may_enter():
            raise ConnectionRefusedError("this session is not taken up again")
        self._stay()
        kwargs["timeout"] = min(self._patience, kwargs.get("timeout") or self._patience)
        made = super().create_connection(*args, **kwargs)
        with self._mutex:
            self._socket = made
        try:
            self._stay()  # it may have been locked meanwhile
        except OSError:
            made.close()
            raise
        return made

    def select(self, *args: Any, **kwargs: Any) -> Any:
        """Wait, unless that is refused; a ping follows only a wait that was not."""
        self._stay()
        found = super().select(*args, **kwargs)
        self._stay()
        return found

    def drop(self) -> None:
        """Break the connection; kazoo makes another one."""
        with self._mutex:
            made = self._socket
        if made is not None:
            with suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)

    def lock(self) -> None:
        """Break the connection, for good. The server hears nothing of it."""
        self._locked = True
        self.drop()

    def _stay(self) -> None:
        if self._locked or not self.may_stay():
            raise ConnectionAbortedError("this session is given up")
