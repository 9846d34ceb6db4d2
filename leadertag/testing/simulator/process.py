"""One life of a member's leadertag process: drives the real machine as the scheduler does.

Threads are coroutines here: each yields operations (a request, a nap) and is resumed with
what came of them, unless the process is stopped (then later) or dead (then never).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from leadertag.election import events as ev
from leadertag.election.deadlines import word_at
from leadertag.election.machine import begin, next_deadline, step
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.errors import BackendError, BackendUnavailable, LeaderTagError, LeaseLost
from leadertag.hooks.outcome import Outcome
from leadertag.model import Instance, Lease, LockView
from leadertag.testing.simulator import performing
from leadertag.testing.simulator.feeds import Feed
from leadertag.testing.simulator.network import Settle
from leadertag.testing.simulator.probe import Probe
from leadertag.testing.simulator.service import Hooks

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host

Operation = Callable[[Settle], None]
Routine = Generator[Operation, Any, Any]


class Process:
    """A process: alive, stopped (SIGSTOP) or dead."""

    def __init__(self, host: Host, memory: ev.Memory | None) -> None:
        self.host = host
        self.engine = host.engine
        self.alive = True
        self.paused = False
        self.resumed_at = -1e9
        self.session = ""
        self.guard_session = ""
        self.standing: Standing = begin(host.policy, host.clock.now(), memory)
        self._memory = memory
        self._admitted = False
        self.admitted_at = 0.0
        self._backlog: list[Callable[[], None]] = []
        self._lane: deque[ev.Effect] = deque()
        self._lane_busy = False
        self._reminded = 0.0
        self._view: LockView | None = None
        self._members: tuple[Instance, ...] | None = None
        self._nappers: list[Callable[[], None]] = []
        self.hooks = Hooks(
            host.engine, host.clock, host.history, host.service, self.wake, self._hook_done
        )
        self.probe = Probe(self)
        self.lock_feed = Feed(self, lambda: host.store.view, self._lock_seen)
        self.instance_feed = Feed(
            self, host.instance, self._instance_seen, remote=host.agent is None
        )
        self.members_feed = Feed(self, host.catalog.members, self._members_seen)

    def start(self) -> None:
        """Start its threads."""
        self.run(self._beat())
        self.run(self._confirm_all())
        self.lock_feed.start()
        self.instance_feed.start()
        if self.host.policy.election.compat:
            self.members_feed.start()

    # -- life ---------------------------------------------------------------------------

    def wake(self, work: Callable[[], None]) -> None:
        """Do something in the process: now, when it goes on, or never."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append(work)
        else:
            work()

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self.host.guardian.left_alone(self)

    def go_on(self) -> None:
        """SIGCONT: what has become due meanwhile happens in any order."""
        self.paused = False
        self.resumed_at = self.engine.now
        due, self._backlog = self._backlog, []
        if self.engine.chance(0.5):
            self.engine.rng.shuffle(due)
        for work in due:
            self.engine.after(self.engine.between(0, 0.002), partial(self.wake, work))

    def die(self) -> None:
        """SIGKILL, or the end of a stop."""
        if not self.paused:
            self.host.guardian.left_alone(self)
        self.alive = False
        self.hooks.die()

    def run(self, routine: Routine, value: Any = None, error: LeaderTagError | None = None) -> None:
        """Go on with a coroutine until it has to wait again."""
        try:
            operation = routine.throw(error) if error is not None else routine.send(value)
        except StopIteration:
            return
        operation(lambda v, e: self.wake(lambda: self.run(routine, v, e)))

    def nap(self, seconds: float, *, until_woken: bool = False) -> Operation:
        """Sleep for some of the host's seconds; until it holds a lock, where that is earlier."""

        def operation(settle: Settle) -> None:
            over = False

            def end() -> None:
                nonlocal over
                if not over:
                    over = True
                    settle(None, None)

            self.engine.after(self.host.clock.real(seconds), end)
            if until_woken:
                self._nappers.append(end)

        return operation

    # -- the machine ----------------------------------------------------------------------

    def take(self, event: ev.Event) -> None:
        """Step the machine and set its effects going."""
        if not (self._admitted and self.alive):
            return
        before = self.standing
        self.standing, effects = step(before, event)
        if self.standing.lease is not None:
            self.host.noted = self.standing.confirmed_at
        self.host.watch.stepped(self, before, event, effects)
        for effect in effects:
            if not self.alive:
                return
            self._dispatch(effect)
        if self.standing.lease is not None and before.lease is None:
            nappers, self._nappers = self._nappers, []
            for end in nappers:
                end()
        if self.standing.state is State.STOPPED and before.state is not State.STOPPED:
            self.ended()
            return
        self._remind()

    def ended(self) -> None:
        """The machine has come to its end, and the process with it."""
        self.host.stopped(self)

    def admit(self) -> None:
        """Become the one process that speaks for the member."""
        self._admitted, self.admitted_at = True, self.host.clock.now()

    def _remind(self) -> None:
        times = [next_deadline(self.standing), word_at(self.standing)]
        due = min((time for time in times if time is not None), default=None)
        if due is None or due == self._reminded:
            return
        self._reminded = due
        delay = self.host.clock.until(due) + self.engine.between(0, 0.004) + 1e-6
        self.engine.after(
            delay, lambda: self.wake(lambda: self.take(ev.Tick(self.host.clock.now())))
        )

    def _dispatch(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Remember(memory=memory):
                self.host.memory = memory
            case ev.CancelHook():
                self.hooks.cancel()
            case ev.RunHook():
                self.hooks.put(effect)
            case ev.Inform():
                pass  # nobody waits for them
            case _:
                self._lane.append(effect)
                self._next_effect()

    def _next_effect(self) -> None:
        if self._lane and not self._lane_busy:
            self._lane_busy = True
            self.run(self._perform(self._lane.popleft()))

    def _perform(self, effect: ev.Effect) -> Routine:
        value, error = None, None
        try:
            value = yield from performing.perform(self, effect)
        except BackendError as raised:
            error = raised
        self._lane_busy = False
        self.take(ev.Done(self.host.clock.now(), effect, value, error))
        self._next_effect()

    def _hook_done(self, effect: ev.RunHook, outcome: Outcome) -> None:
        self.take(ev.Done(self.host.clock.now(), effect, outcome))

    @property
    def busy(self) -> bool:
        """Whether an effect or a hook is under way."""
        return bool(self._lane) or self._lane_busy or self.hooks.busy

    def stop(self, *, keep: bool) -> None:
        """SIGTERM."""
        if not self._admitted:
            self.ended()
            return
        self.wake(lambda: self.take(ev.StopAsked(self.host.clock.now(), keep)))

    # -- what flows in ----------------------------------------------------------------------

    def _lock_seen(self, view: LockView) -> None:
        self._view = view
        self.take(ev.LockSeen(self.host.clock.now(), view))

    def _instance_seen(self, instance: Instance | None) -> None:
        now = self.host.clock.now()
        if not self._admitted:
            if instance is None:
                return
            self.admit()
            self.standing = begin(self.host.policy, now, self._memory)
            if self.session:
                self.take(ev.SessionOpened(now, self.session))
            if self._view is not None:
                self.take(ev.LockSeen(now, self._view))
            if self._members is not None:
                self.take(ev.MembersSeen(now, self._members))
            self.probe.start()
        self.take(ev.InstanceSeen(now, instance))

    def _members_seen(self, members: tuple[Instance, ...]) -> None:
        self._members = members
        self.take(ev.MembersSeen(self.host.clock.now(), members))

    # -- the keeper: two threads ---------------------------------------------------------------

    def _confirm_all(self) -> Routine:
        every = self.host.policy.confirm_every
        while True:
            lease = self.standing.lease
            if lease is None:
                yield self.nap(1e9, until_woken=True)
                yield self.nap(self.engine.between(0, min(every, 0.2)))
                continue
            yield from self._confirm(lease)
            yield self.nap(every)

    def _confirm(self, lease: Lease) -> Routine:
        sent_at = self.host.clock.now()
        try:
            held = yield self.host.server(lambda: self.host.holds(lease), proof=True)
        except BackendError:
            return  # no answer is no news
        self.take(ev.Confirmed(self.host.clock.now(), sent_at, lease, held))

    def _beat(self) -> Routine:
        ttl, clock = self.host.session_ttl, self.host.clock
        step_ = min(self.host.policy.gate_life / 4, ttl / 3)
        kept_at = fed = -1e9
        while True:
            if not self.session:
                yield from self._open()
                kept_at = clock.now()
            elif clock.now() - kept_at >= ttl / 3:
                kept_at = clock.now()
                yield from self._keep_alive()
            feeds = self._feeds
            if feeds and clock.now() - fed >= step_ * 0.9:
                fed = clock.now()
                yield from self._feed(fed)
            feeds = self._feeds
            rest = step_ if feeds or not self.session else kept_at + ttl / 3 - clock.now()
            yield self.nap(max(rest, 0.01), until_woken=not feeds)

    @property
    def _feeds(self) -> bool:
        """Whether gates are fed: never while one of a leadership that is over stands open.

        What feeds one gate of a process feeds them all: a stale one would open again.
        """
        s = self.standing
        if not (s.lease is not None or self.host.always_fed):
            return False
        leads = s.state in (State.VERIFYING, State.PUBLISHING, State.LEADING)
        stale = s.instance is None or s.instance.gate is not None
        proven = s.state is State.HOLDING and self.host.clock.now() < s.contact_ends
        return leads or proven or not stale

    def _open(self) -> Routine:
        host = self.host
        wanted = self._memory.session if self._memory and not self.standing.session else ""
        try:
            self.session = yield host.server(
                lambda: host.store.open(host.name, host.session_ttl, wanted)
            )
        except BackendError:
            return
        self.take(ev.SessionOpened(host.clock.now(), self.session))

    def _keep_alive(self) -> Routine:
        session, guard = self.session, self.guard_session
        try:
            if guard:
                yield self.host.server(lambda: self._renew_guard(guard))
            yield self.host.server(lambda: self.host.store.renew(session))
        except LeaseLost:
            self.session = ""
            yield from self._open()
        except BackendUnavailable:
            return

    def _renew_guard(self, guard: str) -> None:
        if guard in self.host.store.sessions:  # a lost guard is no lost lock
            self.host.store.renew(guard)

    def _feed(self, sent_at: float) -> Routine:
        try:
            yield from self.host.registry.heartbeat()
        except BackendError:
            return
        self.take(ev.RegistryReached(self.host.clock.now(), sent_at))
