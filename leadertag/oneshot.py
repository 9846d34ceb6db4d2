"""One-shot ``check``: the same machine, driven for one step of one election.

Nothing acts between two runs: that is why the lease must outlive two intervals, and why
the promise is about who is *resolved*, not about the service itself between runs. Runs
are serialized by the member's lock file; times are stored with the boot id.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from leadertag.backends import Providers, open_providers
from leadertag.checks import checker
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.daemon.control import ask
from leadertag.election import events as ev
from leadertag.election import planned
from leadertag.election.guards import aside
from leadertag.election.machine import next_deadline, resume, step
from leadertag.election.policy import check_one_shot
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.errors import BackendError, BackendUnavailable, Changed, ConfigError, Conflict
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent
from leadertag.model import Instance, LockView, Role
from leadertag.providers import SelfRegistered
from leadertag.scheduler.clock import Clock, SystemClock
from leadertag.scheduler.member import make_policy, settled
from leadertag.scheduler.memory import MemberFile
from leadertag.scheduler.perform import Performer, attempt

log = logging.getLogger(__name__)
REFRESH = 0.1
"""Seconds between two looks at the lock while a run waits for something to happen."""
NO_SESSION = "none"
"""Stands for the session that a mere follower does not need."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a run came to. ``exit_code``: 0 settled, 1 not settled or in doubt, 2 failing."""

    exit_code: int
    line: str
    details: dict[str, Any] = field(default_factory=dict)


def check(
    settings: Settings, election: ElectionSettings, *, interval: float, timeout: float,
    own_checks: tuple[str, ...] = (),
) -> CheckResult:  # fmt: skip
    """Take one step of one election. Raises LeaderTagError for what keeps it from trying.

    ``interval`` (seconds) is how often it is run, ``timeout`` how long it may wait for the
    election to settle, ``own_checks`` the ids of the checks that run it.
    """
    providers = open_providers(settings, own_checks=own_checks, environ=os.environ)
    pool = WorkerPool(1)
    hooks = HookRunner(election.name, election.hooks, pool)
    try:
        run = OneShot(
            election, providers, hooks, SystemClock(), settings.state_dir, interval, timeout
        )
        return run.run()
    finally:
        hooks.close()
        pool.close()
        providers.close()


class OneShot:
    """One run of ``check`` for one election."""

    def __init__(
        self, election: ElectionSettings, providers: Providers, hooks: HookRunner, clock: Clock,
        state_dir: str, interval: float, timeout: float,
    ) -> None:  # fmt: skip
        self._election = election
        self._interval, self._timeout = interval, timeout
        self._providers = providers
        self._clock = clock
        self._state_dir = state_dir
        self._until = clock.now() + timeout
        self._policy = make_policy(election, providers, hooks, gated=False)
        self._performer = Performer(election, providers, hooks, clock, self._policy.fenced)
        self._effects: deque[ev.Effect] = deque()
        self._doubt = ""
        self._s: Standing
        self._file: MemberFile

    def run(self) -> CheckResult:
        """Make the step, unless another process speaks for the member: then ask that one."""
        try:
            instance = self._own_instance()
            self._file = self._member_file(instance.member)
        except BackendUnavailable as error:
            # Out of contact: what matters now is whether a leadership has to end.
            instance, self._doubt = None, str(error)
            file = MemberFile.only(self._state_dir, self._election.key, self._clock)
            if file is None:
                raise
            self._file = file
        while not self._file.take({"socket": ""}):
            socket = self._file.holder().get("socket", "")
            if socket:
                return _told(ask(socket, {"verb": "status"}), self._election.name)
            if self._clock.now() >= self._until:
                return CheckResult(1, "not settled: another run of check is under way")
            time.sleep(REFRESH)
        try:
            # Only now: a daemon's lease may be shorter than a run's could be.
            check_one_shot(
                self._election, interval=self._interval, timeout=self._timeout,
                demote=self._policy.budget(HookEvent.DEMOTE),
                fence=self._policy.budget(HookEvent.FENCE),
            )  # fmt: skip
        except ConfigError:
            self._file.give_back()
            raise
        try:
            return self._step(instance)
        finally:
            self._end_session()
            self._store(self._s.remembered())
            self._file.give_back()

    def _end_session(self) -> None:
        """Leave no session behind that nothing hangs on."""
        s = self._s
        if s.lease is not None or s.own_lock or s.session in ("", NO_SESSION):
            return
        if planned.candidate(s) == s.me.member and planned.open_switchover(s) is not None:
            return  # the lock is reserved for this very session
        try:
            self._providers.lock.end()
        except BackendError as error:
            log.warning("the session could not be ended, it will expire: %s", error)

    def _member_file(self, member: str) -> MemberFile:
        return MemberFile(self._state_dir, self._election.key, member, self._clock)

    # -- facts ---------------------------------------------------------------------------

    def _own_instance(self) -> Instance:
        registry, election, own = self._providers.registry, self._election, self._election.instance
        if isinstance(registry, SelfRegistered) and own is not None:
            health, output = checker(own.check)()
            registry.register(Instance(
                own.id, registry.node, election.service, own.address, own.port, own.tags,
                meta=own.meta))  # fmt: skip
            registry.report(own.id, health, output)
        return registry.local(election.service, own.id if own else election.instance_id)

    def _gather(self, instance: Instance | None) -> None:
        """Feed the machine what can be known now."""
        lock, now = self._providers.lock, self._clock.now
        try:
            if self._s.lease is not None:
                self._open_session(self._s.lease.session)
            if self._s.lease is not None:
                lease, sent_at = self._s.lease, now()
                held = lease.key in lock.confirm([lease])
                self._feed(ev.Confirmed(now(), sent_at, lease, held))
            if self._s.lease is not None:
                # A leader that is unfit must know first whether the election is paused.
                self._feed(ev.LockSeen(now(), lock.read(self._election.key)))
            if instance is not None:
                self._feed(ev.InstanceSeen(now(), instance))
            self._look()
        except BackendUnavailable as error:
            self._doubt = str(error)
            self._feed(ev.Tick(now()))

    def _look(self) -> None:
        """Look at the lock, and at the members where the election needs them."""
        view = self._providers.lock.read(self._election.key)
        if self._election.compat:
            members = self._providers.registry.members(self._election.service)
            self._feed(ev.MembersSeen(self._clock.now(), members))
        memory = self._s.memory
        mine = memory is not None and memory.session and view.holder == memory.session
        wanted = mine or self._wants(view) or self._invited(view)
        if self._s.session in ("", NO_SESSION) and wanted:
            self._open_session(memory.session if memory else "")
        elif not self._s.session:
            self._feed(ev.SessionOpened(self._clock.now(), NO_SESSION))
        self._feed(ev.LockSeen(self._clock.now(), view))

    def _wants(self, view: LockView) -> bool:
        """Whether it would campaign: opening a session is a write, so not for nothing.

        Raises Conflict where the query's name is taken: nothing is to be changed then.
        """
        s = self._s
        if not view.free or view.foreign or s.unfit or s.foreign_leader:
            return False
        wanted = self._election.query_definition
        for found in self._providers.query.list() if wanted else ():
            assert wanted is not None
            if found.name.casefold() == wanted.name.casefold() and found.service != wanted.service:
                raise Conflict(
                    f"query {found.name!r} asks for service {found.service!r}, not "
                    f"{wanted.service!r}: choose another name, or remove that query"
                )
        return True

    def _invited(self, view: LockView) -> bool:
        """Whether a switchover asks this member, or has reserved the lock for it."""
        asked, leader = view.plan.switchover, view.leader
        if asked is None or view.plan.paused or asked.refused or self._s.unfit:
            return False
        me = self._s.me.member
        if asked.candidate:
            return asked.candidate == me
        return asked.to in ("", me) and leader is not None and leader.member != me

    def _open_session(self, hint: str) -> None:
        session = self._providers.lock.open(
            f"check {self._election.key}", ttl=self._election.lease, session=hint
        )
        self._feed(ev.SessionOpened(self._clock.now(), session))

    # -- the step ------------------------------------------------------------------------

    def _step(self, instance: Instance | None) -> CheckResult:
        memory = self._file.load()
        now = self._clock.now()
        self._s = resume(self._policy, now, memory or ev.Memory())
        self._gather(instance)
        while True:
            while self._effects:
                self._perform(self._effects.popleft())
            if self._resting():
                return self._result()
            time.sleep(max(0.0, min(REFRESH, self._next() - self._clock.now())))
            self._refresh()

    def _refresh(self) -> None:
        try:
            self._look()
        except BackendUnavailable as error:
            self._doubt = str(error)
        self._feed(ev.Tick(self._clock.now()))

    def _next(self) -> float:
        due = next_deadline(self._s)
        return min(self._until, due) if due is not None else self._until

    def _feed(self, event: ev.Event) -> None:
        before = self._s.state
        self._s, effects = step(self._s, event)
        self._effects += effects
        if self._s.state is not before:
            log.info("%s -> %s %s", before, self._s.state, self._s.reason)

    def _perform(self, effect: ev.Effect) -> None:
        if isinstance(effect, ev.Remember):
            self._store(effect.memory)
            return
        done = attempt(self._performer.perform, effect, self._clock)
        if done.error is not None and not isinstance(done.error, Changed):
            self._doubt = str(done.error)
        self._feed(done)

    def _store(self, memory: ev.Memory) -> None:
        """Keep the memory; without it nothing may be promoted, so the run ends."""
        try:
            self._file.store(memory)
        except OSError as error:
            raise ConfigError(
                f"state_dir {self._state_dir}: cannot write: {error.strerror or error}"
            ) from error

    def _resting(self) -> bool:
        """Whether this run can do no more."""
        s = self._s
        if settled(s) or s.state is State.STUCK or self._clock.now() >= self._until:
            return True
        if s.state is State.WAITING_OUT:
            return s.wait_until > self._until and s.pending is None
        if s.chore is not None:
            return False
        if s.state is State.SUSPENDED or (s.state is State.WATCHING and s.plan.paused):
            return True
        if s.state is not State.WATCHING or s.own_lock:
            return False
        stands_back = s.stand_back_until >= self._until
        return bool(s.unfit) or stands_back or bool(s.view and s.view.foreign)

    # -- the answer -----------------------------------------------------------------------

    def _result(self) -> CheckResult:
        s = self._s
        details = {
            "election": self._election.name, "state": str(s.state), "role": str(s.role),
            "term": s.leader.term if s.leader and s.role is not Role.LEADER else s.term,
            "leader": s.me.member if s.role is Role.LEADER else s.leader and s.leader.member,
        }  # fmt: skip
        if settled(s) and not self._doubt:
            return CheckResult(0, f"{s.me.member} {self._does()}", details)
        why = self._doubt or s.reason or self._waiting_for()
        details["reason"] = why
        if s.state is State.STUCK:
            return CheckResult(2, f"stuck: still acting as leader: {why}", details)
        return CheckResult(1, f"not settled ({s.state}): {why}", details)

    def _does(self) -> str:
        s = self._s
        if s.state is State.LEADING:
            return f"leads, term {s.term}"
        if s.leader is not None:
            return f"follows {s.leader.member}, term {s.leader.term}"
        assert s.foreign_leader is not None
        return f"respects {s.foreign_leader.member}, which the predecessor made leader"

    def _waiting_for(self) -> str:
        s = self._s
        if s.state is State.WAITING_OUT:
            left = s.wait_until - self._clock.now()
            return f"the last leader vanished without a word; its lease runs {left:.1f}s more"
        return s.unfit or aside(s) or "out of time"


def _told(answer: dict[str, Any], name: str) -> CheckResult:
    """Return a daemon's word for it."""
    for election in answer.get("elections", []):
        if election.get("name") == name or len(answer["elections"]) == 1:
            code = 0 if election["settled"] else 1
            line = f"{election['role']}, term {election['term']} (says the daemon)"
            if election["reason"]:
                line += f": {election['reason']}"
            return CheckResult(code, line, dict(election))
    raise BackendError(f"the daemon of this host does not run the election {name!r}")
