"""What the guardian does once the daemon is gone for sure: give up in its place.

The same machine, started where a member stands that acts and cannot go on; the same
effects, done by the same code.
"""

from __future__ import annotations

import base64
import logging
import os
import pickle
import queue
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from leadertag.backends import Providers, open_providers
from leadertag.config.settings import ElectionSettings, Settings
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
        self._providers: Providers = open_providers(settings, environ=os.environ)
        self._workers = WorkerPool(1)
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

    def rescue(self, holds: list[tuple[str, str, list[int]]], ended: Callable[[str], None]) -> int:
        """Give up those leaderships, given as (election, member, whose memory it has to be).

        ``ended`` is told each election of which nothing is led here any more, or which another
        process speaks for. Returns an exit code.
        """
        inbox: queue.SimpleQueue[tuple[str, ev.Event]] = queue.SimpleQueue()
        elections = {election.name: election for election in self._settings.elections}
        with ThreadPoolExecutor(2 * len(holds) + 2) as threads:
            members = {}
            for name, member, writers in holds:
                taken = self._take_over(elections[name], member, writers, threads, inbox)
                if taken is not None:
                    members[name] = taken
                else:
                    ended(name)
            self._run(members, inbox, ended)
            for taken in members.values():
                taken.close()
        for runner in self._hooks.values():
            runner.close()
        self._workers.close()
        self._providers.close()
        return 0

    def _take_over(
        self, election: ElectionSettings, member: str, writers: list[int],
        threads: ThreadPoolExecutor, inbox: queue.SimpleQueue[tuple[str, ev.Event]],
    ) -> Member | None:  # fmt: skip
        """Speak for the member, unless a restarted daemon does already."""
        node, _, instance_id = member.partition("/")
        instance = Instance(instance_id, node, election.service, "", 0)
        taken = Member(
            election.name, election, self._providers, self._hooks[election.name], self._clock,
            threads, lambda token, event: inbox.put((token, event)),
        )  # fmt: skip
        memory = taken.admit(instance, self._settings.state_dir, {"socket": ""})
        if not taken.admitted:
            log.info("%s: another process speaks for %s: nothing to do", election.name, member)
            return None
        led = memory is not None and (memory.lease is not None or memory.acting)
        if memory is None or not led or taken.writer not in writers:
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
        self, members: dict[str, Member], inbox: queue.SimpleQueue[tuple[str, ev.Event]],
        ended: Callable[[str], None],
    ) -> None:  # fmt: skip
        kept_at = self._clock.now()
        leases = [member.election.lease for member in members.values()]
        every = min([KEEP_ALIVE, *(LIFE * lease / 3 for lease in leases)])
        give_up_at: float | None = None
        while not all(member.over for member in members.values()):
            for name in [n for n, member in members.items() if not member.standing.acting]:
                ended(name)
            acting = any(member.standing.acting for member in members.values())
            if acting:
                give_up_at = None
            elif give_up_at is None:
                give_up_at = self._clock.now() + RELEASE_PATIENCE
            elif self._clock.now() >= give_up_at:
                log.warning("cannot release; the locks will expire with their session")
                return
            try:
                name, event = inbox.get(timeout=TURN)
                members[name].take(event)
            except queue.Empty:
                pass
            now = self._clock.now()
            for member in members.values():
                member.take(ev.Tick(now))
            if now - kept_at >= every:
                kept_at = now
                self._keep_alive(members)

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
