"""One host's guardian: holds the process's deadline when that cannot hold it itself.

It strikes as the real one does: at the time that the process told it last, it makes sure that
the process is dead, and gives up in its place, by the same machine. Two things differ. It
never relieves a process that lives and knows of its lease: the machine has to meet its own
deadlines, and the history tells when it does not. And it may be killed or stopped itself:
then, and only then, nobody is left to keep I1 when the process is gone too.

One more limit of I1 is the product's: a process that is killed in the middle of a demotion
leaves one that has to be done all over, for which its lease has no time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from leadertag.election import events as ev
from leadertag.election.machine import give_up
from leadertag.election.policy import SLACK
from leadertag.election.signals import LED
from leadertag.election.standing import Standing
from leadertag.election.states import GIVING_UP, State
from leadertag.errors import BackendError
from leadertag.hookspecs import HookEvent
from leadertag.model import Instance
from leadertag.testing.history import Broken
from leadertag.testing.simulator.process import Process, Routine

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host

LAG = SLACK / 2
"""Seconds by which the guardian lets a living daemon act first."""
ADOPT_WITHIN = 2.0
"""Seconds that a restarted process has to take its own lock back."""
TURN = 0.2
KEEP_ALIVE = 3.0
RELEASE_PATIENCE = 60.0
_FRESH = 0.2
"""Seconds for which a process that goes on after SIGSTOP is not trusted at its deadline."""
_LATE = 0.03
"""Seconds that the guardian itself needs at most from its deadline to the first hook."""


def strike_at(s: Standing, admitted_at: float) -> float | None:
    """Return what the scheduler's ``Member.hold`` tells the guardian: when to strike, if ever."""
    if not s.acting or s.state is State.HOLDING:
        return None
    due = s.contact_ends
    if s.lease is None and s.memory is not None:
        due = admitted_at + ADOPT_WITHIN
        before = s.memory.confirmed_at + s.policy.contact_limit
        if admitted_at - 2 * SLACK < before < due:
            due = before
        elif s.memory.state not in LED:
            due = admitted_at + 2 * SLACK
    strike = due + LAG
    demoting = s.policy.budget(HookEvent.DEMOTE) + s.policy.budget(HookEvent.FENCE)
    if s.state in GIVING_UP:
        strike = max(strike, s.entered + demoting + SLACK)
    if s.state is State.STUCK:
        strike = max(strike, s.retry_at + demoting + SLACK)
    return strike


def is_led(memory: ev.Memory) -> bool:
    """Return whether there is anything to give up, as ``Rescuer`` sees it."""
    return memory.lease is not None or memory.acting


class Guardian:
    """The guardian of one host."""

    def __init__(self, host: Host, *, active: bool) -> None:
        self.busy = False
        """It has begun: nobody else may speak for the member before it is done."""
        self.alive = active
        self._host = host
        self._active = active
        self._strike_at: float | None = None
        self._held_up = 0.0
        """Until when (real-world time) it is stopped."""
        self._watching = False
        self._boot = 0
        self._rescue: Rescue | None = None

    def stepped(self, process: Process) -> None:
        """Hear from the process. One that lives starts a guardian anew if there is none."""
        if not self._active or process is self._rescue:
            return
        self.alive = True
        told = strike_at(process.standing, process.admitted_at)
        if told != self._strike_at:
            self._strike_at = told
            if told is not None:
                self._look_at(told)

    def forget(self) -> None:
        """The node is gone."""
        self._end_rescue()
        self._strike_at, self._held_up = None, 0.0
        self._boot += 1

    def kill(self) -> None:
        """SIGKILL. Its hooks' workers die with it."""
        if not self.alive:
            return
        host = self._host
        host.engine.note(host.name, "the guardian is killed")
        if self.busy:
            host.service.excuse("the process and its guardian are gone")
            self._end_rescue()
        self.alive = False
        self.look()

    def hold_up(self, seconds: float) -> None:
        """SIGSTOP for a while, before it has begun."""
        if self.alive and not self.busy:
            self._host.engine.note(self._host.name, f"the guardian hangs for {seconds:.2f} s")
            self._held_up = self._host.engine.now + seconds

    def _end_rescue(self) -> None:
        if self._rescue is not None:
            self._rescue.die()
        self._rescue, self.busy = None, False

    # -- at the deadline -------------------------------------------------------------------

    def look(self) -> None:
        """See whether the deadline needs to be held for the process."""
        host, due = self._host, self._strike_at
        if not self._active or self.busy or not host.alive or due is None:
            return
        if host.clock.now() < due:
            self._look_at(due)
        elif self._process_able():
            if host.clock.now() < due + host.policy.lease:
                self._look_at(host.clock.now() + SLACK / 4)
        elif not self.alive:
            host.service.excuse("the process and its guardian are gone")
        elif host.engine.now < self._held_up:
            host.service.excuse("the process and its guardian are stopped")
            self._look_at(host.clock.now() + SLACK)
        else:
            late = host.engine.between(0, _LATE)
            boot = self._boot
            self.busy = True
            host.engine.after(late, lambda: self._strike() if boot == self._boot else None)

    def _look_at(self, time: float) -> None:
        if self._watching:
            return
        self._watching = True
        boot = self._boot

        def look() -> None:
            self._watching = False
            if boot == self._boot:
                self.look()
            elif self._strike_at is not None:
                self._look_at(self._strike_at)

        self._host.engine.after(self._host.clock.until(time) + 1e-6, look)

    def _process_able(self) -> bool:
        process, engine = self._host.process, self._host.engine
        if process is None or not process.alive or process.paused:
            return False
        if engine.now - process.resumed_at < _FRESH:
            return False
        return process.standing.lease is not None or process.standing.state in GIVING_UP

    def _strike(self) -> None:
        """Make sure that the process is dead, take the member's lock file, give up."""
        host = self._host
        if not self.alive or not self.busy:
            return
        self._end_process()
        self._strike_at = None
        memory = host.recall()
        if memory is None or not is_led(memory):
            self.busy = False
            if host.service.acting:
                raise Broken("I1", f"{host.name} acts, and the guardian leaves it alone")
            return
        host.engine.note(host.name, "the guardian takes over")
        self._rescue = Rescue(host, memory, self._done)
        self._rescue.start()

    def _end_process(self) -> None:
        process = self._host.process
        if process is not None and process.alive:
            process.die()

    def _done(self) -> None:
        self._host.engine.note(self._host.name, "the guardian is done")
        self._end_rescue()


class Rescue(Process):
    """The guardian's own process: the real machine, begun where somebody has to give up."""

    def __init__(self, host: Host, memory: ev.Memory, done: Callable[[], None]) -> None:
        super().__init__(host, memory)
        self.session = memory.session
        self.admit()
        instance = Instance(host.name, f"node-{host.name}", host.catalog.service, "", 0)
        now = host.clock.now()
        self.standing = give_up(host.policy, now, memory, "leadertag is gone", instance)
        self._done = done

    def start(self) -> None:
        """Give up, and keep the session alive meanwhile."""
        self.host.process_nap = self.nap
        self.run(self._keep())
        self.run(self._turn())

    def _turn(self) -> Routine:
        clock, give_up_at = self.host.clock, 0.0
        while True:
            self.take(ev.Tick(clock.now()))
            if not self.alive:
                return
            if self.standing.acting or not give_up_at:
                give_up_at = clock.now() + RELEASE_PATIENCE
            elif clock.now() >= give_up_at:
                self.ended()
                return
            yield self.nap(TURN)

    def _keep(self) -> Routine:
        session = self.session
        while self.standing.lease is not None:
            with suppress(BackendError):  # without contact, demoting is what matters
                yield self.host.server(lambda: self.host.store.renew(session))
            yield self.nap(KEEP_ALIVE)

    def ended(self) -> None:
        """Everything is given up."""
        self._done()
