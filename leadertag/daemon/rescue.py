"""What the guardian does once the daemon is gone for sure: give up in its place.

The same machine, started where a member stands that acts and cannot go on; the same
effects, done by the same code.
"""

from __future__ import annotations

import base64
import logging
import math
import os
import pickle
import queue
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from leadertag.backends import Providers, open_providers
from leadertag.config.settings import Settings
from leadertag.daemon.held import Held
from leadertag.election import events as ev
from leadertag.election.machine import give_up
from leadertag.errors import BackendError
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.model import Instance
from leadertag.plain import OneLineFormatter
from leadertag.scheduler.clock import SystemClock
from leadertag.scheduler.loop import owner_of
from leadertag.scheduler.member import Member

log = logging.getLogger(__name__)
TURN = 0.2
WORKERS = 4
"""Workers started ahead at most: so many leaderships can be given up at once without delay."""
KEEP_ALIVE = 3.0
"""Seconds between two signs of life, at most, for a session whose service will not be demoted."""
LIFE = 2.0
"""Leases for which a session lives without one."""
RELEASE_PATIENCE = 60.0
"""Seconds that releasing is tried for, once everything is demoted."""
REASON = "leadertag was killed, stopped or hung"


def pack(settings: Settings) -> str:
    """Return the settings as the guardian gets them, over a pipe that nobody else reads."""
    return base64.b64encode(pickle.dumps(settings)).decode()


class Rescuer:
    """Providers and hooks, ready to be used at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._elections = {election.name: election for election in settings.elections}
        self._inbox: queue.SimpleQueue[tuple[str, ev.Event]] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor
        self._providers: Providers = open_providers(settings, environ=os.environ)
        self._workers = WorkerPool(min(WORKERS, len(settings.elections)))
        self._hooks = {
            e.name: HookRunner(e.name, e.hooks, self._workers) for e in settings.elections
        }
        self._workers.warm()

    @classmethod
    def of(cls, setup: str) -> Rescuer:
        """Make one of what :func:`pack` returned."""
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s guardian: %(message)s"))
        logging.basicConfig(handlers=[handler], level=logging.INFO)
        return cls(pickle.loads(base64.b64decode(setup)))  # noqa: S301 - our own parent's

    def rescue(
        self, due: Callable[[], Sequence[Held]], next_due: Callable[[], float],
        ended: Callable[[str], None],
    ) -> int:  # fmt: skip
        """Give up leaderships, each when it is due; return an exit code when all is done.

        ``due`` returns those that are, once each; ``next_due`` when the next one will be
        (seconds of the clock; infinity: none is left). ``ended`` is told each election of which
        nothing is led here any more, or which another process speaks for.
        """
        with ThreadPoolExecutor(2 * len(self._settings.elections) + 2) as threads:
            self._threads = threads
            members: dict[str, Member] = {}
            self._run(members, due, next_due, ended)
            for taken in members.values():
                taken.close()
        for runner in self._hooks.values():
            runner.close()
        self._workers.close()
        self._providers.close()
        return 0

    def _take_over(self, hold: Held) -> Member | None:
        """Speak for the member, unless a restarted daemon does already."""
        election, member = self._elections[hold.election], hold.member
        node, _, instance_id = member.partition("/")
        instance = Instance(instance_id, node, election.service, "", 0)
        taken = Member(
            election.name, election, self._providers, self._hooks[election.name], self._clock,
            self._threads, lambda token, event: self._inbox.put((token, event)),
        )  # fmt: skip
        memory = taken.admit(instance, self._settings.state_dir, {"socket": ""})
        if not taken.admitted:
            log.info("%s: another process speaks for %s: nothing to do", election.name, member)
            return None
        led = memory is not None and (memory.lease is not None or memory.acting)
        if memory is None or not led or taken.writer not in hold.writers:
            # Nothing is led any more; or a later daemon does, which has its own guardian.
            taken.close()
            return None
        log.warning("%s: %s; giving up term %d", election.name, REASON, memory.term)
        now = self._clock.now()
        taken.standing = give_up(taken.policy, now, memory, REASON, instance)
        taken.first(lambda: self._keep_alive({election.name: taken}))
        taken.take(ev.Tick(now))
        return taken

    def _run(
        self, members: dict[str, Member], due: Callable[[], Sequence[Held]],
        next_due: Callable[[], float], ended: Callable[[str], None],
    ) -> None:  # fmt: skip
        kept_at = self._clock.now()
        leases = [election.lease for election in self._elections.values()]
        every = min([KEEP_ALIVE, *(LIFE * lease / 3 for lease in leases)])
        give_up_at: float | None = None
        while self._join(members, due(), ended) or next_due() < math.inf:
            for name in [n for n, member in members.items() if not member.standing.acting]:
                ended(name)
            waits = next_due() < math.inf
            acting = any(member.standing.acting for member in members.values())
            if acting or waits:
                give_up_at = None
            elif give_up_at is None:
                give_up_at = self._clock.now() + RELEASE_PATIENCE
            elif self._clock.now() >= give_up_at:
                log.warning("cannot release; the locks will expire with their session")
                return
            try:
                turn = max(0.0, min(TURN, next_due() - self._clock.now()))
                name, event = self._inbox.get(timeout=turn)
                members[name].take(event)
            except queue.Empty:
                pass
            now = self._clock.now()
            for member in members.values():
                member.take(ev.Tick(now))
            if now - kept_at >= every:
                kept_at = now
                self._keep_alive(members)

    def _join(
        self, members: dict[str, Member], held: Sequence[Held], ended: Callable[[str], None]
    ) -> bool:
        """Take over what has become due; return whether anything is still being given up."""
        for hold in held:
            taken = self._take_over(hold)
            if taken is not None:
                members[hold.election] = taken
            else:
                ended(hold.election)
        return not all(member.over for member in members.values())

    def _keep_alive(self, members: dict[str, Member]) -> None:
        """Speak in the session that the daemon left, and keep it from expiring.

        Nobody may succeed a leader that has not been demoted yet.
        """
        for member in members.values():
            lease = member.standing.lease
            if lease is None:
                continue
            try:
                session = self._providers.lock.open(
                    owner_of(self._settings),
                    ttl=LIFE * member.election.lease,
                    session=lease.session,
                )
                if session != lease.session:  # it had expired: this is a new one
                    self._providers.lock.end()
            except BackendError as error:
                log.warning("cannot keep the session alive: %s", error)
