"""One session with the ensemble: requests with deadlines, and a life that we decide on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, ConnectionLoss, NoNodeError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE
from leadertag.errors import BackendUnavailable, LeaseLost

from leadertag_zookeeper.door import Door
from leadertag_zookeeper.failures import GONE, OUT_OF_REACH, RAISED, translated
from leadertag_zookeeper.settings import Settings

Request = Callable[[KazooClient], Any]
"""Sends one request and returns kazoo's promise of the answer."""
Identity = tuple[int, bytes]
"""A session's number and password."""

# kazoo's debug lines show whole requests: passwords, and what sessions are taken up with. Its
# warnings tell of what the caller is told by an error of ours.
_quiet = logging.getLogger("leadertag_zookeeper.kazoo")
_quiet.setLevel(logging.ERROR)
_TAKEN = "it has expired, or was taken up by another process"
_BREATH = 0.01  # seconds
_RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0}


def name_of(session: int) -> str:
    """Return a session's number as the servers' logs have it. kazoo's numbers are signed."""
    return f"{session & (1 << 64) - 1:x}"


class Link:
    """A connection in a session. All methods from any thread.

    A plain one gets another session when its own expires. A *bound* one is that session: when
    it is gone, so is the link, and every request raises LeaseLost.
    """

    def __init__(
        self,
        settings: Settings,
        life: float,
        *,
        bound: bool = False,
        resume: Identity | None = None,
    ) -> None:
        """``life`` of the session in seconds. Starts to connect, and does not wait for it."""
        self._settings = settings
        self.where = f"zookeeper at {settings.hosts[0]}"
        self.life = life
        self._bound = bound
        self._wanted = resume[0] if resume else None
        self._state = threading.Condition()
        self._connected = False
        self._over = ""  # why it is gone
        self._closed = False
        self.door = Door(settings.timeout)
        self._client = KazooClient(
            hosts=",".join(settings.hosts), timeout=life, client_id=resume, handler=self.door,
            connection_retry=dict(_RETRY), logger=_quiet, auth_data=_credentials(settings),
            default_acl=CREATOR_ALL_ACL if settings.user else OPEN_ACL_UNSAFE,
        )  # fmt: skip
        self._client.add_listener(self._heard)
        self._client.start_async()

    # -- the session -------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the session of a bound link is gone, or the link closed."""
        return bool(self._over) or self._closed

    def identity(self) -> Identity:
        """Return number and password of the session, once there is one."""
        deadline = time.monotonic() + self._settings.timeout
        while True:
            self._await_connection(deadline)
            found = self._client.client_id
            if found is not None:
                return int(found[0]), bytes(found[1])

    def condemn(self, why: str) -> None:
        """Say that the session is not ours any more, and leave it."""
        with self._state:
            self._over = self._over or why
            self._state.notify_all()
        self.door.lock()
        self._retire()

    def leave(self) -> None:
        """Close the connection. The session lives on until it expires."""
        self._closed = True
        self.door.lock()
        self._retire()

    def end(self) -> None:
        """End the session, as far as it can be told to; else it expires."""
        self._closed = True
        thread = self._retire()
        thread.join(self._settings.timeout)
        self.door.lock()

    def _retire(self) -> threading.Thread:
        # On a thread of its own: kazoo waits for its threads, and may be on one of them here.
        thread = threading.Thread(target=self._stop, name="zookeeper-close", daemon=True)
        thread.start()
        return thread

    def _stop(self) -> None:
        with suppress(Exception):  # a client that is stopped twice, or slowly: it ends anyway
            self._client.stop()
            self._client.close()

    def _heard(self, state: KazooState) -> None:
        """Hear of a change, on the thread of the connection; must not wait."""
        why = ""
        if self._bound and state == KazooState.LOST and not self._closed:
            why = "it has expired"
        elif state == KazooState.CONNECTED and self._wanted is not None:
            found = self._client.client_id
            if found is not None and found[0] != self._wanted:
                why = "it had expired"  # kazoo has got itself another one
        with self._state:
            self._connected = state == KazooState.CONNECTED
            self._over = self._over or why
            self._state.notify_all()
        if why:
            self.door.lock()
            self._retire()

    # -- requests ----------------------------------------------------------------------

    def ask(self, *requests: Request) -> list[Any]:
        """Send reads, all at once, and return the answers in order; no such node: ``None``.

        Sent again, within the time limit, when the connection breaks or nothing comes.
        """
        limit = self._settings.timeout
        deadline = time.monotonic() + limit
        share = limit / 2
        while True:
            try:
                return self._try(requests, deadline, share)
            except OUT_OF_REACH as error:
                if self._bound and isinstance(error, GONE):
                    self.condemn(_TAKEN)
                if time.monotonic() >= deadline:
                    raise translated(error, self.where) from error
                share = limit
                with self._state:
                    self._state.wait(_BREATH)  # kazoo tells of the state a little later
            except RAISED as error:
                raise translated(error, self.where) from error

    def send(self, request: Request) -> Any:
        """Send a write, once. BackendUnavailable leaves open whether it was done."""
        try:
            limit = self._settings.timeout
            return self._try((request,), time.monotonic() + limit, limit)[0]
        except RAISED as error:
            if self._bound and isinstance(error, GONE):
                self.condemn(_TAKEN)
                raise self._lost() from error
            raise translated(error, self.where) from error

    def _try(self, requests: Sequence[Request], deadline: float, share: float) -> list[Any]:
        """Wait for the connection until the deadline, for the answers so many seconds of it."""
        self._await_connection(deadline)
        deadline = min(deadline, time.monotonic() + share)
        promises = [request(self._client) for request in requests]
        answers: list[Any] = []
        for promise in promises:
            try:
                answers.append(promise.get(timeout=max(0.0, deadline - time.monotonic())))
            except NoNodeError:
                answers.append(None)
            except self.door.timeout_exception:
                # Another server may do better; and nothing late is read as an answer.
                self.door.drop()
                raise
        return answers

    def _await_connection(self, deadline: float) -> None:
        with self._state:
            while not self._connected and not self.over:
                if self._client.client_state == KeeperState.AUTH_FAILED:
                    raise translated(AuthFailedError(), self.where)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BackendUnavailable(f"{self.where}: no connection")
                self._state.wait(left)
            if self._bound and self.over:
                raise self._lost()
            if self._closed:
                raise translated(ConnectionLoss(), self.where)

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.where}: the session is gone: {self._over or 'it was closed'}")


def _credentials(settings: Settings) -> list[tuple[str, str]]:
    if not settings.user:
        return []
    password = settings.password
    if settings.password_file:
        try:
            with open(settings.password_file, encoding="utf-8") as file:
                password = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BackendUnavailable(
                f"zookeeper: password_file {settings.password_file}: {error}"
            ) from error
    return [("digest", f"{settings.user}:{password}")]
