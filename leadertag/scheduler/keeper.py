"""What keeps a process's locks: its session, confirmations, heartbeat.

A constant number of threads, whatever the number of elections. All leases are confirmed
together; a confirmation that hangs does not keep the next one from being sent on time,
and apart from them the session is kept alive and the gates are fed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from leadertag.backends import Providers
from leadertag.election import events as ev
from leadertag.errors import BackendError, LeaseLost
from leadertag.model import Lease
from leadertag.scheduler.clock import Clock

log = logging.getLogger(__name__)
OPEN_AGAIN = 0.5
"""Seconds between two tries to open a session."""
CONFIRMERS = 3
"""Confirmations under way at once: one lost packet must not cost a leadership."""
Post = Callable[[str, ev.Event], None]
"""Hands an event to one election by name; ``""`` means all of them."""


class Keeper:
    """Keeps the leases that :meth:`keep` was last given."""

    def __init__(
        self, providers: Providers, clock: Clock, post: Post, *, owner: str, ttl: float
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._post = post
        self._owner = owner
        self._ttl = ttl
        self._leases: Mapping[str, Lease] = {}
        self._every = 1.0
        self._gated = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.session = ""
        self._hint: str | None = None
        self._threads: list[threading.Thread] = []
        self._confirmers = ThreadPoolExecutor(CONFIRMERS, thread_name_prefix="confirm")
        self._free = threading.Semaphore(CONFIRMERS)
        self.alive: Callable[[], bool] = lambda: True

    # -- called by the loop -----------------------------------------------------------

    def start(self) -> None:
        """Start the threads."""
        works = (("confirm", self._confirm_all), ("session", self._keep_session),
                 ("heart", self._beat))  # fmt: skip
        for name, work in works:
            thread = threading.Thread(target=self._run_on, args=(name, work), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run_on(self, name: str, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Exception:  # a bug of ours or of a provider's must not end the keeping
                log.exception("%s failed in an unforeseen way", name)
                self._stop.wait(OPEN_AGAIN)

    def open_with(self, hint: str) -> None:
        """Open the session, taking up that one if it still lives."""
        if self._hint is None:
            self._hint = hint
            self._wake.set()

    def keep(self, leases: Mapping[str, Lease], every: float, gated: bool) -> None:
        """Confirm these leases, by election, every so many seconds; feed gates or not."""
        self._leases, self._every, self._gated = dict(leases), every, gated

    def stop(self, *, end_session: bool) -> None:
        """Stop; with ``end_session`` the backend forgets this process."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._confirmers.shutdown(wait=False, cancel_futures=True)
        if end_session and self.session:
            try:
                self._providers.lock.end()
            except BackendError as error:
                log.warning("the session could not be ended, it will expire: %s", error)

    # -- the confirming thread -----------------------------------------------------------

    def _confirm_all(self) -> None:
        while not self._stop.is_set():
            leases = self._leases
            if leases and self._free.acquire(blocking=False):
                self._confirmers.submit(self._confirm, leases)
            self._stop.wait(self._every if leases else min(self._every, 0.2))

    def _confirm(self, leases: Mapping[str, Lease]) -> None:
        sent_at = self._clock.now()
        try:
            held = self._providers.lock.confirm(list(leases.values()))
        except BackendError as error:
            # No answer is no news: the machine counts the time since the last one.
            log.warning("cannot confirm: %s", error)
            return
        except Exception:
            log.exception("confirming failed in an unforeseen way")
            return
        finally:
            self._free.release()
        now = self._clock.now()
        for name, lease in leases.items():
            self._post(name, ev.Confirmed(now, sent_at, lease, lease.key in held))

    # -- session and heart ------------------------------------------------------------------

    def _keep_session(self) -> None:
        step = self._ttl / 3
        while not self._stop.is_set():
            self._wake.clear()
            if self.session:
                self._keep_alive()
            elif self._hint is not None:
                self._open()
            self._wake.wait(step if self.session else min(step, OPEN_AGAIN))

    def _beat(self) -> None:
        # An eighth: a beat or two may be lost or late before a gate closes.
        step = self._providers.registry.gate_life / 8
        while not self._stop.wait(step):
            if self._gated and self.alive():
                self._feed(self._clock.now())

    def _open(self) -> None:
        try:
            self.session = self._providers.lock.open(
                self._owner, ttl=self._ttl, session=self._hint or ""
            )
        except BackendError as error:
            log.warning("no session with the backend: %s", error)
            return
        self._post("", ev.SessionOpened(self._clock.now(), self.session))

    def _keep_alive(self) -> None:
        try:
            self._providers.lock.keep_alive()
        except LeaseLost as error:
            log.warning("the session is gone: %s", error)
            self.session, self._hint = "", ""
            self._open()
        except BackendError as error:
            log.warning("cannot keep the session alive: %s", error)

    def _feed(self, sent_at: float) -> None:
        try:
            self._providers.registry.heartbeat()
        except BackendError as error:
            log.warning("cannot feed the gate: %s", error)
            return
        self._post("", ev.RegistryReached(self._clock.now(), sent_at))
