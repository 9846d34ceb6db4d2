"""Requests to the backend: late, lost, cut off; each either way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from leadertag.errors import BackendUnavailable, LeaderTagError
from leadertag.testing.simulator.engine import Clock, Engine
from leadertag.testing.simulator.scenario import Scenario

Settle = Callable[[Any, LeaderTagError | None], None]
"""Takes a value or an error."""
SAY_NOTHING = BackendUnavailable("no answer in time")
NO_LEADER = BackendUnavailable("the backend has no leader")


class Link:
    """One host's way to the servers."""

    def __init__(self, engine: Engine, clock: Clock, scenario: Scenario) -> None:
        self.sends = True
        """Requests arrive."""
        self.hears = True
        """Answers and news arrive."""
        self.agent_up = True
        self.last_word: Callable[[], None] | None = None
        """What happens right after the next proof of the lock: its answer is the last one
        to arrive, and as late as can be."""
        self.calm = False
        """Nothing is lost or late any more."""
        self.backend_down_until = 0.0
        """Until then the backend has no leader, and answers nobody."""
        self._engine = engine
        self._clock = clock
        self._loss = scenario.loss
        self._late = scenario.late
        self._patience = clock.real(scenario.patience)

    @property
    def cut(self) -> bool:
        """Whether nothing gets through either way."""
        return not (self.sends or self.hears)

    def latency(self) -> float:
        """Return how long the next message takes."""
        rng = self._engine.rng
        if not self.calm and self._late and rng.random() < self._late:
            return self._patience * (0.3 + 3 * rng.random())
        usual = rng.random()
        return 0.001 + 0.03 * usual * usual * usual

    def lost(self) -> bool:
        """Whether the next message gets lost."""
        return not self.calm and self._loss > 0 and self._engine.rng.random() < self._loss

    def call(self, work: Callable[[], Any], settle: Settle, *, proof: bool = False) -> None:
        """Have the backend do that work; settle with its answer, or with none in time.

        ``proof``: the answer proves that the lock is held.
        """
        engine, sent = self._engine, self._engine.now
        if not self.agent_up:
            engine.after(0.001, lambda: settle(None, BackendUnavailable("the agent is down")))
            return
        there = self.latency()
        if there > self._patience:
            self._give_up(sent, settle)
            engine.after(there, lambda: self._arrive_late(work))
        elif self.lost():
            self._give_up(sent, settle)
        else:
            engine.after(there, lambda: self._arrive(work, settle, sent, proof=proof))

    def _give_up(self, sent: float, settle: Settle) -> None:
        left = max(0.0, sent + self._patience - self._engine.now)
        self._engine.after(left, lambda: settle(None, SAY_NOTHING))

    def _arrive(self, work: Callable[[], Any], settle: Settle, sent: float, *, proof: bool) -> None:
        """The request is at the backend."""
        if not self.sends:
            self._give_up(sent, settle)
            return
        if self._engine.now < self.backend_down_until:
            self._refuse(settle, sent)
            return
        value, error = None, None
        try:
            value = work()
        except LeaderTagError as raised:
            error = raised
        if proof and error is None and self.last_word is not None:
            self._say_last(value, settle, sent)
            return
        back = self.latency()
        if self._engine.now + back - sent > self._patience or self.lost():
            self._give_up(sent, settle)
        else:
            self._engine.after(back, lambda: self._answer(value, error, settle, sent))

    def _arrive_late(self, work: Callable[[], Any]) -> None:
        """A request arrives when nobody waits for it any more."""
        if self.sends and self._engine.now >= self.backend_down_until:
            with suppress(LeaderTagError):
                work()

    def _refuse(self, settle: Settle, sent: float) -> None:
        """Tell that there is no leader: at once, or only when patience has ended."""
        if self._engine.chance(0.5):
            self._give_up(sent, settle)
        else:
            self._engine.after(self.latency(), lambda: settle(None, NO_LEADER))

    def _answer(
        self, value: Any, error: LeaderTagError | None, settle: Settle, sent: float
    ) -> None:
        """The answer is back."""
        if self.hears:
            settle(value, error)
        else:
            self._give_up(sent, settle)

    def _say_last(self, value: Any, settle: Settle, sent: float) -> None:
        strike, self.last_word = self.last_word, None
        assert strike is not None
        left = max(0.0, sent + 0.97 * self._patience - self._engine.now)
        self._engine.after(left, lambda: settle(value, None))
        strike()
