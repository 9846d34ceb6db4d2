"""One node's agent: the registration that is the truth, synchronized to the catalog.

What the agent was told is in the catalog a little later, much later when it cannot get
through, and again at each full synchronization. It believes to know what the catalog has:
another's write there (a gate shut out) stands until the next full one.
"""

from __future__ import annotations

from collections.abc import Callable

from leadertag.errors import BackendUnavailable, NotRegistered
from leadertag.model import Gate, Instance, TagChange
from leadertag.testing.history import History
from leadertag.testing.simulator.catalog import Catalog, Entry, make_instance
from leadertag.testing.simulator.engine import Clock, Engine


class Agent:
    """The agent of one host. ``connected`` tells whether it gets through to the servers."""

    def __init__(
        self, engine: Engine, clock: Clock, history: History, catalog: Catalog, host: str, *,
        tags: tuple[str, ...], gate_life: float, sync_every: float,
        connected: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.host = host
        self.up = True
        self.registered = True
        self.tags = tags
        self.healthy = True
        self.gates: dict[int, bool] = {}
        """By term: whether the latch is on."""
        self.changed: Callable[[], None] = lambda: None
        """Wakes the watches of the local process."""
        self._engine = engine
        self._clock = clock
        self._history = history
        self._catalog = catalog
        self._ttl = gate_life * 0.7
        self._fed = -1e9
        self._alive = False
        self._sync_every = sync_every
        self._connected = connected
        self._belief: tuple[bool, tuple[str, ...], bool, dict[int, bool]] | None = None
        self._due = False
        self.touch()
        self._engine.after(engine.between(0, sync_every), self._sync_fully)

    # -- what the process asks of it -------------------------------------------------------

    def _ready(self) -> None:
        if not self.up:
            raise BackendUnavailable("the agent is down")

    def _known(self) -> None:
        self._ready()
        if not self.registered:
            raise NotRegistered(f"no instance {self.host}")

    def tag(self, change: TagChange, gate: Gate | None) -> None:
        """Rewrite the registration."""
        self._known()
        after = change.apply(self.tags)
        self._history.registered(self.host, self.tags, after)
        self.tags = after
        if gate is not None and not self.gates.get(gate.term, False):
            self.gates[gate.term] = True
        self._engine.note(self.host, f"agent has tags {','.join(after)}, gates {self.gates}")
        self.touch()

    def open_gate(self, term: int) -> None:
        """Take the latch off."""
        self._known()
        if term not in self.gates:
            raise NotRegistered(f"no gate of term {term}")
        self._set(term, latched=False)

    def close_gate(self, term: int) -> None:
        """Put the latch on, whether or not there is a gate."""
        self._known()
        self._set(term, latched=True)

    def _set(self, term: int, *, latched: bool) -> None:
        if self.gates.get(term) is not latched:
            self._engine.note(self.host, f"gate {term} {'closes' if latched else 'opens'}")
            self.gates[term] = latched
            self.touch()

    def remove_gates(self, keep: int | None) -> None:
        """Remove all gates but one."""
        self._known()
        gone = [term for term in self.gates if term != keep]
        for term in gone:
            del self.gates[term]
        if gone:
            self._engine.note(self.host, f"gates removed: {gone}")
            self.touch()

    def feed(self) -> None:
        """Feed the check that the gates follow."""
        self._ready()
        self._fed = self._engine.now
        if not self._alive:
            self._alive = True
            self._expire_later()
            self.touch()

    def _expire_later(self) -> None:
        left = self._fed + self._clock.real(self._ttl) - self._engine.now

        def look() -> None:
            if not self._alive:
                return
            if self._engine.now - self._fed >= self._clock.real(self._ttl) - 1e-6:
                self._alive = False
                self.touch()
            else:
                self._expire_later()

        self._engine.after(max(left, 0.001), look)

    # -- what befalls it ---------------------------------------------------------------------

    def set_health(self, healthy: bool) -> None:
        """The service's check has a new result."""
        if self.healthy is not healthy:
            self.healthy = healthy
            self.touch()

    def register(self, registered: bool) -> None:
        """The operator registers the service or takes it away, with all its checks."""
        self.registered = registered
        self.gates = {}
        self.touch()

    def reload(self, tags: tuple[str, ...]) -> None:
        """The registration is read from its file again."""
        if self.registered:
            self.tags = tags
            self.touch()

    def stop(self) -> None:
        """The agent ends; the catalog keeps what it was told."""
        self.up = False

    def start(self) -> None:
        """It starts again with what it had stored; a check that was fed gets a new term."""
        self.up = True
        self._belief = None
        if self._alive:
            self._fed = self._engine.now
        self.touch()

    # -- towards others ------------------------------------------------------------------------

    def instance(self, *, reachable: bool) -> Instance | None:
        """Return the registration as the local process sees it."""
        if not self.registered:
            return None
        return make_instance(
            self._catalog.service, self._catalog.election, self.host, self.tags,
            healthy=self.healthy, reachable=reachable, gates=self._states(),
        )  # fmt: skip

    def _states(self) -> dict[int, bool]:
        return {term: self._alive and not latched for term, latched in self.gates.items()}

    def touch(self) -> None:
        """Something changed here: the catalog gets to know."""
        self.changed()
        if not self._due:
            self._due = True
            self._engine.after(self._engine.between(0.002, 0.035), self._push)

    def _push(self) -> None:
        self._due = False
        if not self.up:
            return
        if not self._connected():
            self._due = True
            self._engine.after(self._engine.between(0.1, 2.0), self._push)
            return
        state = (self.registered, self.tags, self.healthy, self._states())
        if state != self._belief:
            self._write(state)

    def _write(self, state: tuple[bool, tuple[str, ...], bool, dict[int, bool]]) -> None:
        """Write what differs from what the agent believes to stand there."""
        registered, tags, healthy, gates = state
        belief, entries = self._belief, self._catalog.entries
        self._belief = state
        if not registered:
            if entries.pop(self.host, None):
                self._catalog.changed()
            return
        entry = entries.get(self.host)
        if entry is None:
            entry = entries[self.host] = Entry(self.host)
            belief = None
        known = belief[3] if belief else {}
        news = {term: state for term, state in gates.items() if known.get(term) != state}
        entry.tags, entry.healthy = tags, healthy
        entry.gates = {t: news.get(t, entry.gates.get(t, gates[t])) for t in gates}
        self._engine.note(
            "catalog", f"{self.host}: {','.join(tags)} healthy={healthy} gates={entry.gates}"
        )
        self._catalog.changed()

    def _sync_fully(self) -> None:
        if self.up and self._connected():
            state = (self.registered, self.tags, self.healthy, self._states())
            entry = self._catalog.entries.get(self.host)
            there = entry and (True, entry.tags, entry.healthy, entry.gates)
            if there != state:
                self._belief = None
                self._write(state)
        self._engine.after(self._sync_every, self._sync_fully)
