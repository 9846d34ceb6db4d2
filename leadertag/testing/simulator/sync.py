"""How an agent writes to the catalog: one item after the other, and stuck in that when cut off.

By what Consul does (``agent/local``): what has changed is written soon, the service first and in
one write with its checks that have changed as well, then the other checks, in any order, each
by itself. A full synchronization compares everything, and writes what differs. The agent's
lock is held all the while: as long as a write hangs, it takes no news of its own checks, and
requests of others wait; they are carried out in order when it goes on, whoever still waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from leadertag.testing.simulator.catalog import Catalog, Entry
from leadertag.testing.simulator.engine import Engine

Work = Callable[[], None]
Item = str | tuple[int, str]
"""``service``, ``health``, or a gate's check: its term and its kind."""
SERVICE, HEALTH = "service", "health"
_HANGS = (0.05, 10.0, 10.0)
"""Seconds for which a write that gets no answer hangs at most: the network decides."""
_AGAIN = 2.0
"""Seconds after which a failed synchronization is tried again at most."""


class Sync:
    """Keeps the catalog's entry of one host like its agent's registration."""

    def __init__(
        self, engine: Engine, catalog: Catalog, host: str, *, every: float,
        local: Callable[[], Mapping[Item, Any]], sends: Callable[[], bool],
        hears: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.up = True
        self.busy = False
        """A write is under way: nothing else happens at the agent."""
        self._engine = engine
        self._catalog = catalog
        self._host = host
        self._every = every
        self._local = local
        self._sends, self._hears = sends, hears
        self._dirty: dict[Item, None] = {}
        """What has changed, or was found to differ, and is not written yet."""
        self._waiting: deque[tuple[Work, Work]] = deque()
        self._due = False
        self._hung = False
        """The pass under way has got no answer for a while."""
        self._fresh = False
        """Nothing is written after a start before a full synchronization has told what differs."""
        self._full = False
        """A full synchronization has come due meanwhile."""
        self._life = 0
        self._in_turn()

    # -- the agent's lock ----------------------------------------------------------------------

    def when_free(self, work: Work, dropped: Work = lambda: None) -> None:
        """Do it now, or when the write under way has ended; ``dropped`` if the agent ends first."""
        if self.busy:
            self._waiting.append((work, dropped))
        else:
            work()

    def changed(self, *items: Item) -> None:
        """Write these soon: they have other values, or are gone."""
        self._dirty.update(dict.fromkeys(items))
        self._soon(self._engine.between(0.0, 0.03))

    def stop(self) -> None:
        """The agent is gone: so is what it had under way."""
        self.up = self.busy = self._due = self._hung = self._full = False
        self._life += 1
        self._dirty.clear()
        waiting, self._waiting = self._waiting, deque()
        for _, dropped in waiting:
            dropped()

    def start(self) -> None:
        """It is there again, and knows nothing of the catalog: not before its node is seen."""
        self.up = self._fresh = True
        self._sync_fully(self._engine.between(0.005, 0.4))

    # -- passes ----------------------------------------------------------------------------------

    def _later(self, delay: float, work: Work) -> None:
        """Do something unless the agent has ended meanwhile."""
        life = self._life
        self._engine.after(delay, lambda: work() if life == self._life else None)

    def _soon(self, delay: float) -> None:
        if not self._due and self.up:
            self._due = True
            self._later(delay, self._begin)

    def _begin(self) -> None:
        self._due = False
        if self.busy or self._fresh or not self._dirty:
            return
        items = [item for item in self._dirty if item != SERVICE]
        self._engine.rng.shuffle(items)
        self.busy = True
        self._next([SERVICE, *items] if SERVICE in self._dirty else items)

    def _next(self, items: list[Item]) -> None:
        items = [item for item in items if item in self._dirty]
        if items:
            patience = self._engine.rng.choice(_HANGS)
            self._send(items, self._engine.now + patience, landed=False)
        else:
            self._end()

    def _send(self, items: list[Item], until: float, *, landed: bool) -> None:
        """Have the first item written, and its answer back."""
        if not landed and self._sends():
            self._later(self._engine.between(0.001, 0.004), lambda: self._land(items, until))
        elif landed and self._hears():
            self._next(items[1:])
        elif self._engine.now >= until:
            self._fail()
        else:
            self._hung = True
            # The network's own retries bring it on its way once that works again.
            self._later(
                self._engine.between(0.02, 0.4), lambda: self._send(items, until, landed=landed)
            )

    def _land(self, items: list[Item], until: float) -> None:
        if not self._sends():
            self._send(items, until, landed=False)
            return
        done = [items[0], *self._dirty] if items[0] == SERVICE else items[:1]
        self._write(done)
        if self._hears():
            for item in done:
                self._dirty.pop(item, None)
        self._send(items, until, landed=True)

    def _fail(self) -> None:
        self._hung = False
        self._end()
        again = self._engine.between(0.1, _AGAIN)
        if self._engine.chance(0.5):
            self._soon(again)
        else:
            self._sync_fully(again)

    def _end(self) -> None:
        self.busy = False
        while self._waiting and not self.busy:
            work, _ = self._waiting.popleft()
            work()
        full = self._full or (self._hung and self._engine.chance(0.8))
        self._hung = self._full = False
        if full:
            self._sync_fully(0.0)
        elif self._dirty:
            self._soon(self._engine.between(0.0, 0.03))

    # -- the catalog -------------------------------------------------------------------------------

    def _write(self, items: list[Item]) -> None:
        local, entries = self._local(), self._catalog.entries
        if not local:
            if entries.pop(self._host, None):
                self._catalog.changed()
            return
        entry = entries.setdefault(self._host, Entry(self._host))
        for item in items:
            if item in (SERVICE, HEALTH):
                # A check is written with its service: that one exists.
                entry.tags = local[SERVICE]
                entry.healthy = local[HEALTH] if item == HEALTH else entry.healthy
            elif isinstance(item, tuple) and item in local:
                entry.checks[item] = local[item]
            elif isinstance(item, tuple):
                entry.checks.pop(item, None)
        self._engine.note(
            "catalog",
            f"{self._host}: {','.join(entry.tags)} healthy={entry.healthy} {_show(entry)}",
        )
        self._catalog.changed()

    def _sync_fully(self, delay: float) -> None:
        """Read what is there, which holds nobody up, and then write what differs."""
        self._later(delay + self._engine.between(0.001, 0.008), self._compare)

    def _compare(self) -> None:
        if self.busy:
            self._full = True  # both are the same thread's: one after the other
            return
        if not (self._sends() and self._hears()):
            if self._fresh:
                self._sync_fully(self._engine.between(0.1, _AGAIN))
            return
        self._fresh = False
        local, entry = self._local(), self._catalog.entries.get(self._host)
        there: dict[Item, Any] = {}
        if entry is not None:
            there = {SERVICE: entry.tags, HEALTH: entry.healthy}
            for key, passes in entry.checks.items():
                there[key] = passes
        differ = [item for item in {**local, **there} if local.get(item) != there.get(item)]
        self._dirty = dict.fromkeys(differ)
        self._begin()

    def _in_turn(self) -> None:
        def turn() -> None:
            if self.up:
                self._sync_fully(0.0)
            self._in_turn()

        self._engine.after(self._engine.between(0.5, 1.0) * self._every, turn)


def _show(entry: Entry) -> str:
    checks = (f"{kind} {term} {'on' if on else 'off'}" for (term, kind), on in entry.checks.items())
    return ", ".join(checks) or "no gates"
