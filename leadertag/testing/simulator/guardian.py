"""One host's guardian: holds the process's deadline when that cannot hold it itself.

It strikes as the real one does, by the same deadlines: at the time that the process told it
last, or at once when it was giving up, it makes sure that the process is dead, and gives up in
its place, by the same machine. Two things differ. It never relieves a process that lives and
knows of its lease: the machine has to meet its own deadlines, and the history tells when it
does not. And it may be killed or stopped itself: then nobody is left to keep I1 when the
process is gone too.

One more limit of I1 is time itself: what is killed or stopped in the middle of a last demotion
leaves one that has to be done all over. See :meth:`Guardian.left_alone` for when the lease has
no time left for that; only then, and only from its end on, I1 does not count it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from leadertag.election import deadlines
from leadertag.election import events as ev
from leadertag.election.machine import give_up
from leadertag.election.policy import RATE, SLACK
from leadertag.election.states import GIVING_UP
from leadertag.errors import BackendError
from leadertag.hookspecs import HookEvent
from leadertag.model import Instance
from leadertag.testing.history import Broken
from leadertag.testing.simulator.process import Process, Routine

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host

TURN = 0.2
KEEP_ALIVE = 3.0
RELEASE_PATIENCE = 60.0
_NEVER = float("inf")
_FRESH = 0.2
"""Seconds for which a process that goes on after SIGSTOP is not trusted at its deadline."""
_LATE = 0.03
"""Seconds that the guardian itself needs at most from its deadline to the first hook."""
_RESERVE = 0.05
"""Seconds that it needs to be noticed, and to begin another demotion."""


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
        self._told: deadlines.Deadlines | None = None
        self._held_up = 0.0
        """Until when (real-world time) it is stopped."""
        self._watching = _NEVER
        """When it looks next, by the host's clock."""
        self._boot = 0
        self._rescue: Rescue | None = None

    def stepped(self, process: Process) -> None:
        """Hear from the process. One that lives starts a guardian anew if there is none."""
        if not self._active or process is self._rescue:
            return
        self.alive = True
        told = deadlines.of(process.standing, process.admitted_at)
        if told != self._told:
            self._told = told
            if told is not None:
                self._look_at(told.strike_at)

    def forget(self) -> None:
        """The node is gone."""
        self._end_rescue()
        self._told, self._held_up, self._watching = None, 0.0, _NEVER
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

    def left_alone(self, process: Process) -> None:
        """A process is being killed, or has been stopped.

        In the middle of a demotion that may leave too little time for another one: of what is
        killed, the rest of the lease, of what is stopped, what is left once its own hook should
        have ended. A ``fence`` is enough, where there is one.
        """
        host, s, ending = self._host, process.standing, process.hooks.ending
        if process is self._rescue or ending is None or not host.service.acting:
            return
        demote, fence = host.policy.budget(HookEvent.DEMOTE), host.policy.budget(HookEvent.FENCE)
        ends = s.confirmed_at + RATE * host.policy.lease
        if process.paused:
            lost = s.now >= s.contact_ends and (ending is HookEvent.FENCE or not fence)
        else:
            lost = ends - host.clock.now() - _RESERVE < (fence or demote)
        if lost:
            term = host.service.acting
            host.engine.after(host.clock.until(ends), lambda: self._too_late(term))

    def _too_late(self, term: int) -> None:
        if self._host.service.acting == term:
            self._host.service.excuse("its last demotion was cut short")

    def _end_rescue(self) -> None:
        if self._rescue is not None:
            self._rescue.die()
        self._rescue, self.busy = None, False

    # -- at the deadline -------------------------------------------------------------------

    def look(self) -> None:
        """See whether the deadline needs to be held for the process."""
        host, told = self._host, self._told
        if not self._active or self.busy or not host.alive or told is None:
            return
        now = host.clock.now()
        over = now >= told.strike_at
        if not over and not (told.gives_up and self._process_dead):
            self._look_at(told.strike_at)
        elif self._process_able():
            if now < told.strike_at + host.policy.lease:
                self._look_at(now + SLACK / 4)
        elif not self.alive:
            if over:
                host.service.excuse("the process and its guardian are gone")
            else:
                self._look_at(told.strike_at)
        elif host.engine.now < self._held_up:
            if over:
                host.service.excuse("the process and its guardian are stopped")
            self._look_at(now + SLACK / 4)
        else:
            late = host.engine.between(0, _LATE)
            boot = self._boot
            self.busy = True
            host.engine.after(late, lambda: self._strike() if boot == self._boot else None)

    def _look_at(self, time: float) -> None:
        if time >= self._watching:
            return
        self._watching, boot = time, self._boot

        def look() -> None:
            if boot == self._boot and time == self._watching:
                self._watching = _NEVER
                self.look()

        self._host.engine.after(self._host.clock.until(time) + 1e-6, look)

    @property
    def _process_dead(self) -> bool:
        process = self._host.process
        return process is None or not process.alive

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
        self._told = None
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
