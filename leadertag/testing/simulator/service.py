"""The service itself, and the hooks that act on it.

Hooks run in workers of their own: one goes on while leadertag's process is stopped, and
ends with it when that is killed. Its limit is kept by the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from leadertag.election import events as ev
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.testing.history import History
from leadertag.testing.simulator.engine import Clock, Engine
from leadertag.testing.simulator.scenario import Scenario

_STRENGTH = {HookEvent.DEMOTE: 1, HookEvent.FENCE: 2}
"""What ends weaker ones instead of waiting for them, as the real runner does."""
_NEEDS_SERVICE = (HookEvent.PROMOTE, HookEvent.FOLLOW)


class Service:
    """What is made leader and follower. ``acting`` is the truth that I1 is about."""

    def __init__(self, engine: Engine, history: History, scenario: Scenario, host: str) -> None:
        self.host = host
        self.up = True
        self.acting = 0
        """The term with which it acts as leader; 0 when it does not."""
        self.followed = 0
        self.run = 1
        """Which run of it this is: a restart is told by that."""
        self.broken = False
        """It is down for good."""
        self.lapsed = False
        """It lost its role by a crash, which leadertag need not have noticed."""
        self.calm = False
        self.dawdles = False
        """A demotion takes nearly all of its limit."""
        self.demotes: Callable[[], None] | None = None
        """Called, once, when its next demotion has begun."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the service came up or went down."""
        self._engine = engine
        self._history = history
        self._scenario = scenario

    def begin(self, term: int) -> None:
        """It may act as leader from here on."""
        self._engine.note(self.host, f"ACTS, term {term}")
        self.acting, self.followed, self.lapsed = term, 0, False
        self._history.began(self._engine.now, self.host, term)
        if self._scenario.one_shot is not None:
            self.excuse("nothing acts between two runs of check")

    def end(self, how: str) -> None:
        """It does not act any more."""
        if self.acting:
            self._engine.note(self.host, f"has stopped acting: {how}")
        self.acting, self.lapsed = 0, False
        self._history.ended(self.host)

    def excuse(self, why: str) -> None:
        """I1 is suspended for it."""
        self._history.excuse(self.host, why)

    def crash(self) -> None:
        """It is gone."""
        if self.up:
            self._engine.note(self.host, "its service is down")
            self.up, self.followed = False, 0
            self.end("it is down")
            self.lapsed = True
            self.changed()

    def start(self) -> None:
        """It comes up, in the non-leading role."""
        if not (self.up or self.broken):
            self._engine.note(self.host, "its service is up")
            self.up, self.followed = True, 0
            self.run += 1
            self.changed()

    # -- hooks --------------------------------------------------------------------------

    def be_quick(self) -> None:
        """Its demotions take what they usually take."""
        self.dawdles, self.demotes = False, None

    def plan(self, change: RoleChange) -> tuple[float | None, Outcome]:
        """Return how long a hook takes (``None``: it hangs) and what comes of it."""
        engine, event = self._engine, change.event
        # By its configured limit, however little it is granted.
        limit = self._scenario.hooks.get(event, change.timeout)
        usual = limit * engine.between(0.01, 0.4)
        if self.dawdles and not self.calm and event is HookEvent.DEMOTE:
            usual = limit * engine.between(0.7, 0.97)
        if not self.up:
            gone = event in (HookEvent.DEMOTE, HookEvent.FENCE)
            return usual / 4, Outcome(gone, "" if gone else "the service is down")
        if event is HookEvent.VERIFY and self.acting != change.term:
            return usual, Outcome(False, "the service does not lead")
        if not self.calm and engine.chance(self._scenario.hook_trouble):
            trouble = engine.rng.choice(("fails", "fails slowly", "hangs", "is slow"))
            if trouble == "hangs":
                return None, Outcome(False, "hangs")
            slow = usual if trouble == "fails" else limit * engine.between(0.5, 0.97)
            return slow, Outcome(trouble == "is slow", f"{event} {trouble}", rank=1)
        rank = 0 if not self.calm and engine.chance(0.05) else engine.rng.randint(1, 3)
        return usual, Outcome(True, rank=rank if event is HookEvent.RANK else None)

    def hook_begins(self, change: RoleChange) -> None:
        """A hook starts to do its work."""
        if change.event is HookEvent.PROMOTE and self.up:
            self.begin(change.term)
        if change.event is HookEvent.DEMOTE and self.demotes is not None and not self.calm:
            called, self.demotes = self.demotes, None
            called()

    def hook_ends(self, change: RoleChange, *, ok: bool) -> None:
        """It has done its work, or not."""
        match change.event, ok:
            case HookEvent.DEMOTE, True:
                self.end("demoted")
            case HookEvent.FENCE, True:
                self.end("fenced")
                self.crash()
            case HookEvent.FOLLOW, True:
                self.followed, self.lapsed = change.term, False
            case HookEvent.DEMOTE, False if not self._scenario.hooks.get(HookEvent.FENCE):
                self.excuse("demote failed")
            case HookEvent.FENCE, False:
                self.excuse("demote and fence failed")


@dataclass
class Run:
    """One hook under way."""

    effect: ev.RunHook
    over: bool = False
    began: bool = False


class Hooks:
    """Runs one process's hooks: one at a time, in order."""

    def __init__(
        self, engine: Engine, clock: Clock, history: History, service: Service,
        wake: Callable[[Callable[[], None]], None], report: Callable[[ev.RunHook, Outcome], None],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._clock = clock
        self._history = history
        self._service = service
        self._wake = wake
        self._report = report
        self._queue: deque[Run] = deque()

    def put(self, effect: ev.RunHook) -> None:
        """Run it when its turn comes."""
        strength = _STRENGTH.get(effect.change.event, 0)
        weaker = [r for r in self._queue if _STRENGTH.get(r.effect.change.event, 0) < strength]
        self._queue.append(Run(effect))
        for run in weaker:
            self._end_early(run)
        if self._queue and not self._queue[0].began:
            self._next()

    @property
    def busy(self) -> bool:
        """Whether any runs or waits."""
        return bool(self._queue)

    @property
    def ending(self) -> HookEvent | None:
        """Which hook is under way that ends a leadership, if one is."""
        event = self._queue[0].effect.change.event if self._queue else None
        return event if event in _STRENGTH else None

    def cancel(self) -> None:
        """End what runs and waits."""
        for run in list(self._queue):
            self._end_early(run)

    def die(self) -> None:
        """The process is killed, and its workers with it."""
        runs, self._queue = list(self._queue), deque()
        for run in runs:
            run.over = True
            if run.began:
                self._history.hook_ended(self._service.host, run.effect.serial)

    def _next(self) -> None:
        run = self._queue[0]
        run.began = True
        change = run.effect.change
        self._history.hook_began(self._service.host, run.effect.serial, change.event)
        self._engine.note(self._service.host, f"hook {change.event} begins, term {change.term}")
        self._service.hook_begins(change)
        takes, outcome = self._service.plan(change)
        if takes is not None:
            self._engine.after(self._clock.real(takes), lambda: self._end(run, outcome))
        killed = Outcome(False, f"{change.event} killed at its limit")
        self._engine.after(
            self._clock.real(change.timeout) + 0.004,
            lambda: None if run.over else self._wake(lambda: self._end(run, killed)),
        )

    def _end_early(self, run: Run) -> None:
        outcome = Outcome(False, "ended early", cancelled=True)
        if run.began:
            self._engine.after(0.003, lambda: self._end(run, outcome))
        else:
            self._end(run, outcome)

    def _end(self, run: Run, outcome: Outcome) -> None:
        if run.over:
            return
        run.over = True
        self._queue.remove(run)
        if run.began:
            change = run.effect.change
            if outcome.ok and not self._service.up and change.event in _NEEDS_SERVICE:
                outcome = Outcome(False, "the service is down")
            self._history.hook_ended(self._service.host, run.effect.serial)
            self._engine.note(self._service.host, f"hook {change.event} ends: {outcome.ok} "
                              f"{outcome.message}")  # fmt: skip
            self._service.hook_ends(change, ok=outcome.ok)
        self._wake(lambda: self._report(run.effect, outcome))
        if self._queue and not self._queue[0].began:
            self._next()
