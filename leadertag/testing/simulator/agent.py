"""One node's agent: the registration that is the truth, and the checks that it runs.

A gate is two checks: an alias that follows the heartbeat's TTL at once (on Consul 1.8.7 it had
followed in 600 of 600 changes by the first look after the answer, also under load: it is the
catalog that takes milliseconds), and a latch that keeps what it was told last. See ``sync`` for
how the catalog gets to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from leadertag.errors import BackendUnavailable, LeaderTagError, NotRegistered
from leadertag.model import Gate, Instance, TagChange
from leadertag.testing.history import History
from leadertag.testing.simulator.catalog import Catalog, make_instance
from leadertag.testing.simulator.engine import Clock, Engine
from leadertag.testing.simulator.network import Settle
from leadertag.testing.simulator.sync import HEALTH, SERVICE, Item, Sync

ALIAS, LATCH = "alias", "latch"
TTL = 0.4
"""The heartbeat's TTL, in lives of a gate: an agent that restarts counts it anew, once."""


class Agent:
    """The agent of one host. ``sends`` and ``hears`` tell what gets through to the servers."""

    def __init__(
        self, engine: Engine, clock: Clock, history: History, catalog: Catalog, host: str, *,
        tags: tuple[str, ...], gate_life: float, sync_every: float,
        sends: Callable[[], bool], hears: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.host = host
        self.up = True
        self.registered = True
        self.tags = tags
        self.healthy = True
        self.aliases: dict[int, bool] = {}
        """By term: whether that gate's alias passes, as last looked."""
        self.latches: dict[int, bool] = {}
        """By term: whether that gate's latch was told to pass."""
        self.changed: Callable[[], None] = lambda: None
        """Wakes the watches of the local process."""
        self._engine = engine
        self._history = history
        self._catalog = catalog
        self._ttl = clock.real(gate_life * TTL)
        self._alive = False
        """Whether the heartbeat's check passes."""
        self._fed = -1e9
        self._stored = -1e9
        """Until when its state is good after a restart: a stored feed keeps its own time."""
        self._runs = False
        """Whether the TTL's timer does."""
        self.sync = Sync(
            engine, catalog, host, every=sync_every, local=self._local, sends=sends, hears=hears
        )
        self.sync.changed(SERVICE, HEALTH)

    # -- what the process asks of it -------------------------------------------------------

    def do(self, work: Callable[[], Any], settle: Settle) -> bool:
        """Carry out a request when its turn comes; returns whether that was at once."""
        down = BackendUnavailable("the agent is down")

        def carry_out() -> None:
            try:
                value = work()
            except LeaderTagError as error:
                settle(None, error)
            else:
                settle(value, None)

        if not self.up:
            settle(None, down)
            return True
        at_once = not self.sync.busy
        self.sync.when_free(carry_out, lambda: settle(None, down))
        return at_once

    def _known(self) -> None:
        if not self.registered:
            raise NotRegistered(f"no instance {self.host}")

    def tag(self, change: TagChange, gate: Gate | None) -> None:
        """Rewrite the registration, with a closed gate."""
        self._known()
        after = change.apply(self.tags)
        self._history.registered(self.host, self.tags, after)
        items: list[Item] = []
        if after != self.tags:
            self.tags = after
            items.append(SERVICE)
        if gate is not None and (gate.term not in self.aliases or self._open(gate.term)):
            self.aliases.setdefault(gate.term, False)
            self.latches[gate.term] = False
            items += [SERVICE, (gate.term, ALIAS), (gate.term, LATCH)]
            self._look_soon()
        self._engine.note(self.host, f"agent has tags {','.join(after)}, {self._gates}")
        self._touch(*items)

    def _open(self, term: int) -> bool:
        return self.latches.get(term, True)

    def has_gate(self, term: int) -> bool:
        """Whether a gate is registered."""
        self._known()
        return term in self.aliases

    def open_gate(self, term: int) -> None:
        """Have the latch pass."""
        if not self.has_gate(term):
            raise NotRegistered(f"no gate of term {term}")
        if not self._open(term):
            self._engine.note(self.host, f"gate {term} opens")
            self._unlatch(term)
            self._touch((term, LATCH))

    def _unlatch(self, term: int) -> None:
        self.latches[term] = True

    def close_gate(self, term: int) -> None:
        """Have the latch fail, whether or not there is a gate."""
        self._known()
        if self.latches.get(term) is not False:
            self._engine.note(self.host, f"gate {term} closes")
            self.latches[term] = False
            self._touch((term, LATCH))

    @property
    def open_latches(self) -> list[int]:
        """Which latches pass."""
        return [term for term, passes in self.latches.items() if passes]

    def shut_latch(self, term: int) -> None:
        """Have a latch fail if there is one."""
        if term in self.latches:
            self.close_gate(term)

    def remove_gates(self, keep: int | None) -> None:
        """Remove all gates but one."""
        self._known()
        gone = sorted({*self.aliases, *self.latches} - {keep})
        for term in gone:
            self.aliases.pop(term, None)
            self.latches.pop(term, None)
            self._touch((term, ALIAS), (term, LATCH))
        if gone:
            self._engine.note(self.host, f"gates removed: {gone}")

    def feed(self) -> None:
        """Feed the check that the aliases follow."""
        self._fed = self._engine.now
        self._stored = self._fed + self._ttl
        self._count_down()
        if not self._alive:
            self._beat(True)

    # -- its own checks ------------------------------------------------------------------------

    def _count_down(self) -> None:
        """Start the TTL's timer, unless it runs: it looks itself how long it has to."""
        if self._runs:
            return
        self._runs = True

        def look() -> None:
            left = self._fed + self._ttl - self._engine.now
            if left > 1e-6 and self.up:
                self._engine.after(left, look)
            else:
                self.sync.when_free(expire, stopped)

        def stopped() -> None:
            self._runs = False

        def expire() -> None:
            stopped()
            if self._alive and self.up:
                self._beat(False)

        self._engine.after(self._fed + self._ttl - self._engine.now, look)

    def _beat(self, alive: bool) -> None:
        self._alive = alive
        self._look_soon()

    def _look_soon(self) -> None:
        delay = self._engine.between(0.00005, 0.001)
        self._engine.after(delay, lambda: self.sync.when_free(self._look))

    def _look(self) -> None:
        """The aliases see what their target has come to."""
        if not self.up:
            return
        for term in [term for term, passes in self.aliases.items() if passes is not self._alive]:
            self.aliases[term] = self._alive
            self._touch((term, ALIAS))

    # -- what befalls it ---------------------------------------------------------------------

    def set_health(self, healthy: bool) -> None:
        """The service's check has a new result."""
        self.sync.when_free(lambda: self._health_is(healthy))

    def _health_is(self, healthy: bool) -> None:
        if self.healthy is not healthy:
            self.healthy = healthy
            self._touch(HEALTH)

    def deregister(self) -> None:
        """The operator takes the service away, with all its checks."""
        self.sync.when_free(self._deregister)

    def _deregister(self) -> None:
        self._engine.note(self.host, "is deregistered")
        self.registered = False
        gone: list[Item] = [(term, kind) for term in self.latches for kind in (ALIAS, LATCH)]
        self.aliases, self.latches = {}, {}
        self._touch(SERVICE, HEALTH, *gone)

    def register(self, tags: tuple[str, ...]) -> None:
        """The operator registers it, as it is on file."""
        self.sync.when_free(lambda: self._register(tags))

    def _register(self, tags: tuple[str, ...]) -> None:
        if not self.registered:
            self._engine.note(self.host, "is registered again")
            self.registered, self.tags = True, tags
            self._touch(SERVICE, HEALTH)

    def reload(self, tags: tuple[str, ...]) -> None:
        """The registration is read from its file again."""
        self.sync.when_free(lambda: self._reload(tags))

    def _reload(self, tags: tuple[str, ...]) -> None:
        if self.registered:
            self._engine.note(self.host, "its tags are reverted by a reload")
            self.tags = tags
            self._touch(SERVICE)

    def stop(self) -> None:
        """The agent ends; the catalog keeps what it was told."""
        self.up = False
        self.sync.stop()

    def start(self) -> None:
        """It starts again with what it had stored.

        A heartbeat that has not run out meanwhile gets its whole TTL again; a latch is as it was
        told last; an alias fails until it has looked.
        """
        self.up = True
        self.sync.start()
        self._alive = self._engine.now < self._stored
        self._fed = self._engine.now
        if self._alive:
            self._count_down()
        self.aliases = dict.fromkeys(self.aliases, False)
        self._look_soon()
        self.changed()

    # -- towards others ------------------------------------------------------------------------

    def instance(self, *, reachable: bool) -> Instance | None:
        """Return the registration as the local process sees it."""
        if not self.registered:
            return None
        return make_instance(
            self._catalog.service, self._catalog.election, self.host, self.tags,
            healthy=self.healthy, reachable=reachable, checks=self._gates,
        )  # fmt: skip

    @property
    def _gates(self) -> dict[tuple[int, str], bool]:
        aliases = {(term, ALIAS): passes for term, passes in self.aliases.items()}
        return aliases | {(term, LATCH): passes for term, passes in self.latches.items()}

    def _local(self) -> Mapping[Item, Any]:
        if not self.registered:
            return {}
        local: dict[Item, Any] = {SERVICE: self.tags, HEALTH: self.healthy}
        for key, passes in self._gates.items():
            local[key] = passes
        return local

    def _touch(self, *items: Item) -> None:
        """Something changed here: the catalog gets to know."""
        if items:
            self.changed()
            self.sync.changed(*items)
