"""One election as this process takes part in it: its machine and what performs for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.election import deadlines
from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.machine import begin, next_deadline, step
from leadertag.election.policy import Policy, check_timing
from leadertag.election.standing import Standing
from leadertag.election.states import LED, State
from leadertag.errors import Changed, LeaderTagError
from leadertag.hooks.outcome import Outcome
from leadertag.hooks.runner import HookRunner
from leadertag.hookspecs import HookEvent
from leadertag.model import Characteristic, Health, Instance
from leadertag.scheduler.clock import Clock
from leadertag.scheduler.lanes import Lane
from leadertag.scheduler.memory import MemberFile
from leadertag.scheduler.perform import Performer, attempt
from leadertag.scheduler.sources import ProbeWatcher

log = logging.getLogger(__name__)
Post = Callable[[str, ev.Event], None]


def make_policy(
    election: ElectionSettings, providers: Providers, hooks: HookRunner, *, gated: bool
) -> Policy:
    """Return the election's numbers; ConfigError when its hooks do not fit its lease."""
    budgets = {event: hooks.budget(event) for event in HookEvent}
    check_timing(election, demote=budgets[HookEvent.DEMOTE], fence=budgets[HookEvent.FENCE])
    return Policy(
        election=election, gated=gated, fenced=is_fenced(providers), budgets=budgets,
        gate_life=providers.registry.gate_life, sees_all=sees_all(providers),
    )  # fmt: skip


def is_fenced(providers: Providers) -> bool:
    """Whether lock and registry are one backend that publishes in one transaction."""
    able = Characteristic.FENCED_TAGS in providers.registry.characteristics
    return able and providers.lock_backend == providers.registry_backend


def sees_all(providers: Providers) -> bool:
    """Whether the registry shows every instance that the lock could exclude."""
    wide = Characteristic.CROSS_HOST
    return wide in providers.registry.characteristics or wide not in providers.lock.characteristics


@dataclass(frozen=True, slots=True)
class Hold:
    """A leadership that has to end unless this process says otherwise in time."""

    election: str
    member: str
    prepare_at: float
    strike_at: float
    ends_at: float
    """When the lease has been used up to its limit: for the kernel's watchdog."""
    gives_up: bool
    """It ends already: if this process does, the guardian strikes at once."""
    writers: tuple[int, ...]
    """The processes whose memory of it may be: this one, and the one that it took over from."""


class Member:
    """Drives one machine. Only the loop's thread calls it; effects report back by ``post``."""

    def __init__(
        self, token: str, election: ElectionSettings, providers: Providers, hooks: HookRunner,
        clock: Clock, pool: ThreadPoolExecutor, post: Post,
    ) -> None:  # fmt: skip
        self.token = token
        self.election = election
        self.hooks = hooks
        self.policy = make_policy(election, providers, hooks, gated=True)
        self.standing: Standing = begin(self.policy, clock.now())
        self.admitted = False
        self.leaving = False
        """Asked to end while the process goes on (reload)."""
        self.reminded_at = 0.0
        self._clock = clock
        self._post = post
        self._performer = Performer(election, providers, hooks, clock, self.policy.fenced)
        self._backend = Lane(pool)
        self._hooks = Lane(pool)
        self._informs = Lane(pool)
        self._file: MemberFile | None = None
        self._probe: ProbeWatcher | None = None
        self._hook_running = 0
        self._cancelled = 0
        self._waits_for = ""
        self._admitted_at = 0.0
        self.writer = 0
        """The process that left the memory with which this one began."""
        self._retired: list[HookRunner] = []
        """Runners from before a reload: a hook of theirs may still be running."""

    # -- who speaks for the member -----------------------------------------------------

    def admit(self, instance: Instance, state_dir: str, holder: dict[str, Any]) -> ev.Memory | None:
        """Take the member's lock file; begin the machine from its memory.

        Returns the memory; :attr:`admitted` tells whether the file could be taken.
        """
        file = MemberFile(state_dir, self.election.key, instance.member, self._clock)
        if not file.take(holder):
            self.wait_for(f"another process speaks for {instance.member}")
            return None
        self._file, self.admitted = file, True
        memory, self._admitted_at = file.load(), self._clock.now()
        self.writer = file.writer
        self.standing = begin(self.policy, self._admitted_at, memory)
        return memory

    def wait_for(self, why: str) -> None:
        """Tell, once, why this member cannot take part yet."""
        if why != self._waits_for:
            log.warning("%s: %s; waiting for that to change", self.election.name, why)
        self._waits_for = why

    def start_probe(self, instance: Instance) -> None:
        """Watch the service with a hook's probe, if one is configured."""
        try:
            probe = self.hooks.open_probe(instance)
        except LeaderTagError as error:
            # The registry's own check still tells the health, only later.
            log.error("%s: goes without its probe: %s", self.election.name, error)
            return
        if probe is None:
            return

        def tell(health: Health) -> None:
            self._post(self.token, ev.ProbeSeen(self._clock.now(), health))

        self._probe = ProbeWatcher(f"probe of {self.election.name}", probe, tell)
        self._probe.start()

    def change(self, election: ElectionSettings, hooks: HookRunner, policy: Policy) -> None:
        """Go on with changed settings of the same election (reload)."""
        if election.hooks != self.election.hooks:
            self._retired.append(self.hooks)
            self.hooks, self._performer.hooks = hooks, hooks
            if self._probe is not None:
                self._probe.stop()
                self._probe = None
            if self.admitted:
                self.start_probe(self.standing.me)
        self.election = self._performer.election = election
        self.policy = policy
        self.standing = replace(self.standing, policy=policy)

    def close(self) -> None:
        """Let another process speak for the member."""
        if self._probe is not None:
            self._probe.stop()
        if self._file is not None:
            self._file.give_back()
            self._file = None
        self.admitted = False

    # -- driving ------------------------------------------------------------------------

    def take(self, event: ev.Event) -> None:
        """Step the machine and set its effects going."""
        before = self.standing
        self.standing, effects = step(before, event)
        if self.standing.confirmed_at != before.confirmed_at and self.standing.holds:
            self._note_confirmed()
        self._tell(before)
        unwritten = ""
        for effect in effects:
            if isinstance(effect, ev.Remember):
                unwritten = self._remember(effect.memory)
            elif unwritten and _promotes(effect):
                self._post(self.token, _refused(effect, unwritten, self._clock.now()))
            else:
                self._dispatch(effect)
        if self._hook_running and self._hook_running < self._cancelled:
            self._cancel_hooks()  # it had not quite started when it was cancelled

    def _cancel_hooks(self) -> None:
        for runner in (*self._retired, self.hooks):
            runner.cancel()

    def first(self, work: Callable[[], None]) -> None:
        """Have something done before any effect that goes to the backend from now on."""
        self._backend.put(work)

    @property
    def has_stale_gate(self) -> bool:
        """Whether the own registration carries a gate that is not to be fed.

        One of no leadership of this process, or of one without contact: nobody knows there
        that it was closed, or how long its lock was held.
        """
        s = self.standing
        gate = s.instance.gate if s.instance else None
        led = s.state in (*LED, State.ADOPTING, State.STARTING)
        unproven = s.state is State.HOLDING and self._clock.now() >= s.contact_ends
        return gate is not None and (unproven or not led)

    def deadline(self) -> float | None:
        """Return when the machine wants a tick, or the guardian a word."""
        times = (next_deadline(self.standing), deadlines.word_at(self.standing))
        return min((time for time in times if time is not None), default=None)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return not self.admitted or self.standing.state is State.STOPPED

    def hold(self) -> Hold | None:
        """Return what the guardian has to know; nothing where it must not interfere."""
        told = deadlines.of(self.standing, self._admitted_at)
        if told is None:
            return None
        return Hold(
            self.election.name, self.standing.me.member, told.prepare_at, told.strike_at,
            told.ends_at, told.gives_up, (os.getpid(), self.writer),
        )  # fmt: skip

    def _tell(self, before: Standing) -> None:
        after = self.standing
        if after.state is not before.state:
            why = after.reason or (aside(after) if after.state is State.WATCHING else "")
            log.info(
                "%s: %s -> %s, term %d%s", self.election.name, before.state, after.state,
                after.term, f" ({why})" if why else "",
            )  # fmt: skip
        elif after.reason and after.reason != before.reason:
            log.info("%s: %s, %s", self.election.name, after.state, after.reason)

    def _dispatch(self, effect: ev.Effect) -> None:
        match effect:
            case ev.CancelHook(serial=serial):
                self._cancelled = serial
                self._cancel_hooks()
            case ev.RunHook():
                self._hooks.put(lambda: self._run_hook(effect))
            case ev.Inform():
                self._informs.put(lambda: self._inform(effect))
            case _:
                self._backend.put(lambda: self._perform(effect))

    def _note_confirmed(self) -> None:
        assert self._file is not None
        try:
            self._file.note_confirmed(self.standing.confirmed_at)
        except OSError as error:
            log.error("%s: cannot note a confirmation: %s", self.election.name, error)

    def _remember(self, memory: ev.Memory) -> str:
        """Write the memory; returns why that failed, ``""`` when it did not."""
        assert self._file is not None
        try:
            self._file.store(memory)
        except OSError as error:
            # Without it a restart cannot adopt and steps down in order instead.
            why = f"cannot write its memory: {error.strerror or error}"
            log.error("%s: %s", self.election.name, why)
            return why
        return ""

    def _perform(self, effect: ev.Effect) -> None:
        done = attempt(self._performer.perform, effect, self._clock)
        if done.error is not None:
            # Somebody was faster with a plan or the history: it is written again, or was done.
            level = logging.INFO if isinstance(done.error, Changed) else logging.WARNING
            log.log(level, "%s: %s: %s", self.election.name, type(effect).__name__, done.error)
        self._post(self.token, done)

    def _run_hook(self, effect: ev.RunHook) -> None:
        self._hook_running = effect.serial
        if effect.serial < self._cancelled:
            outcome = Outcome(False, "overtaken before it began", cancelled=True)
            done = ev.Done(self._clock.now(), effect, outcome)
        else:
            done = attempt(self._performer.perform, effect, self._clock)
        self._hook_running = 0
        self._post(self.token, done)

    def _inform(self, effect: ev.Inform) -> None:
        attempt(self._performer.perform, effect, self._clock)

    # -- for people -----------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what the control socket tells."""
        s = self.standing
        # What led back to watching is history; what fails there is not.
        doing = aside(s) if s.state is State.WATCHING and not s.failures else s.reason
        return {
            "name": self.election.name,
            "state": str(s.state),
            "role": str(s.role),
            "term": s.leader.term if s.leader else s.term,
            "leader": s.leader.member if s.leader else None,
            "settled": settled(s),
            "paused": s.plan.paused,
            "reason": doing if self.admitted else self._waits_for,
        }


def _promotes(effect: ev.Effect) -> bool:
    return isinstance(effect, ev.RunHook) and effect.change.event is HookEvent.PROMOTE


def _refused(promote: ev.Effect, why: str, now: float) -> ev.Done:
    """Return the outcome of a promotion that may not begin.

    The guardian, and a restart, know of a leadership by its memory alone: a service that
    were promoted without one would stay so when this process is killed.
    """
    return ev.Done(now, promote, Outcome(False, why))


def settled(s: Standing) -> bool:
    """Whether everything is as it should be: leading, or following a published leader.

    In a rolling change the leader may be one that the predecessor made.
    """
    if s.state is State.LEADING:
        return not s.tags_wrong_for_leader
    if s.state is not State.WATCHING or s.instance is None or s.own_lock:
        return False
    tags = s.instance.tags
    if s.policy.election.follower_tag not in tags or s.policy.election.leader_tag in tags:
        return False
    return s.to_follow is not None and s.followed == s.to_follow[0]
