"""A member that is no daemon: runs of ``check`` at intervals, each going on from the last.

Driven as :mod:`leadertag.oneshot` does. Nothing acts between two runs, so I1 does not hold for
the service; that at most one is *resolved* (I2) has to hold all the same. Only with fenced tags:
elsewhere it hangs on each member's own check, which the simulated agents do not have.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from leadertag.election import events as ev
from leadertag.election.machine import next_deadline, resume
from leadertag.election.states import State
from leadertag.errors import BackendError, BackendUnavailable
from leadertag.model import LockView
from leadertag.oneshot import NO_SESSION, REFRESH
from leadertag.scheduler.member import settled
from leadertag.testing.simulator.process import Process, Routine

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host

_MOMENT = 0.005


class CheckRun(Process):
    """One run."""

    def __init__(self, host: Host) -> None:
        memory = host.recall() or ev.Memory()
        super().__init__(host, memory)
        assert host.scenario.one_shot is not None
        _, timeout = host.scenario.one_shot
        self._until = host.clock.now() + timeout
        self.admit()
        self.standing = resume(host.policy, host.clock.now(), memory)

    def start(self) -> None:
        """Make the step."""
        self.run(self._check())

    def ended(self) -> None:
        """A run is never asked to stop; it ends by itself."""

    def _check(self) -> Routine:
        try:
            yield from self._gather()
        except BackendUnavailable:
            self.take(ev.Tick(self._now))
        while True:
            while self.busy:
                yield self.nap(_MOMENT)
            if self._resting():
                break
            due = next_deadline(self.standing)
            rest = min(self._until, due if due is not None else self._until) - self._now
            yield self.nap(max(_MOMENT, min(REFRESH, rest)))
            with suppress(BackendUnavailable):  # in doubt; the clock goes on
                yield from self._look()
            self.take(ev.Tick(self._now))
        yield from self._leave()

    @property
    def _now(self) -> float:
        return self.host.clock.now()

    # -- facts -----------------------------------------------------------------------------

    def _gather(self) -> Routine:
        host = self.host
        if (lease := self.standing.lease) is not None:
            yield from self._open_session(lease.session)
        if (lease := self.standing.lease) is not None:
            held, sent_at = lease, self._now
            answer = yield host.server(lambda: host.holds(held), proof=True)
            self.take(ev.Confirmed(self._now, sent_at, held, answer))
        if self.standing.lease is not None:
            view = yield host.server(lambda: host.store.view)
            self.take(ev.LockSeen(self._now, view))
        instance = yield host.server(host.instance)
        if instance is not None:
            self.take(ev.InstanceSeen(self._now, instance))
        yield from self._look()

    def _look(self) -> Routine:
        host = self.host
        view: LockView = yield host.server(lambda: host.store.view)
        s = self.standing
        mine = s.memory is not None and s.memory.session and view.holder == s.memory.session
        wanted = mine or (view.free and not s.unfit) or self._invited(view)
        if s.session in ("", NO_SESSION) and wanted:
            yield from self._open_session(s.memory.session if s.memory else "")
        elif not s.session:
            self.take(ev.SessionOpened(self._now, NO_SESSION))
        self.take(ev.LockSeen(self._now, view))

    def _invited(self, view: LockView) -> bool:
        asked, leader, me = view.plan.switchover, view.leader, self.standing.me.member
        if asked is None or view.plan.paused or asked.refused or self.standing.unfit:
            return False
        if asked.candidate:
            return asked.candidate == me
        return asked.to in ("", me) and leader is not None and leader.member != me

    def _open_session(self, hint: str) -> Routine:
        host = self.host
        self.session = yield host.server(lambda: host.store.open(host.name, host.session_ttl, hint))
        self.take(ev.SessionOpened(self._now, self.session))

    # -- the end ---------------------------------------------------------------------------

    def _resting(self) -> bool:
        s = self.standing
        if settled(s) or s.state is State.STUCK or self._now >= self._until:
            return True
        if s.state is State.WAITING_OUT:
            return s.wait_until > self._until and s.pending is None
        if s.chore is not None:
            return False
        if s.state is State.SUSPENDED or (s.state is State.WATCHING and s.plan.paused):
            return True
        if s.state is not State.WATCHING or s.own_lock:
            return False
        return bool(s.unfit) or s.stand_back_until >= self._until

    def _leave(self) -> Routine:
        s, host = self.standing, self.host
        reserved = s.plan.switchover is not None and s.plan.switchover.candidate == s.me.member
        if not (s.lease or s.own_lock or reserved or s.session in ("", NO_SESSION)):
            with suppress(BackendError):  # then it will expire
                yield host.server(lambda: host.store.destroy(s.session, "ended"))
        host.memory = self.standing.remembered()
        host.check_over(self)
