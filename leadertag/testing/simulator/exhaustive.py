"""Visits every interleaving of the small world, breadth first, within its bounds.

A state is two members and a backend, each in normal form and kept once; a state is three
numbers. What a member can do next depends on itself and the backend alone, so it is worked
out once for each pair. At every state I1, I2 and I3 are checked; the first one that breaks a
promise is reached by a shortest path.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from leadertag.election.states import State
from leadertag.hookspecs import HookEvent
from leadertag.testing.history import Broken
from leadertag.testing.simulator.moves import Moves
from leadertag.testing.simulator.normal import freeze, numbers_in, ranks, renumber, serials_in
from leadertag.testing.simulator.small import NAMES, Backend, Bounds, Budget, Member
from leadertag.testing.simulator.times import tidy

Key = tuple[int, int, int]
"""A state: both members and the backend, by their numbers."""
TIME = " s pass"
NOTHING = Budget()


@dataclass(frozen=True, slots=True)
class Search:
    """What came of a search. ``path`` leads to the broken promise, if one was found."""

    states: int
    depth: int
    """Moves of the longest path that was gone."""
    exhausted: bool
    """There is nothing more to be seen within these bounds."""
    seconds: float
    broken: str = ""
    what: str = ""
    path: tuple[str, ...] = ()

    def story(self) -> str:
        """Return the path as text."""
        return "\n".join([*self.path, f"{self.broken}: {self.what}"])


class Store:
    """Keeps each value once and gives it a number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.numbers: list[frozenset[int]] = []
        """The terms and indexes in each."""
        self._known: dict[Any, int] = {}
        self._very: dict[int, int] = {}
        """By the identity of the very objects that are kept."""

    def keep(self, value: Any) -> int:
        """Return the value's number."""
        very = self._very.get(id(value))
        if very is not None:
            return very
        frozen = freeze(value)
        known = self._known.get(frozen)
        if known is None:
            known = self._known[frozen] = len(self.values)
            found: set[int] = set()
            numbers_in(value, found)
            self.values.append(value)
            self._very[id(value)] = known
            self.numbers.append(frozenset(found))
        return known


class Explorer:
    """One search."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._rules = Moves(bounds)
        self._store = Store()
        self._moves: dict[tuple[int, int, int], list[tuple[str, int, int] | Broken]] = {}
        self._settled: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        self._renamed: dict[tuple[int, tuple[int, ...]], int] = {}
        self._left: dict[tuple[int, int], float] = {}
        self._parents: dict[Key, tuple[Key | None, str]] = {}

    @property
    def visited(self) -> set[State]:
        """Return every state in which a member was seen."""
        members = {m for key in self._parents for m in key[:2]}
        return {state for m in members if (state := self._state(m)) is not None}

    # -- the search ------------------------------------------------------------------------

    def run(self, *, states: int = 0, depth: int = 0) -> Search:
        """Search until everything is seen, or so many states, or paths of that many moves."""
        began, reached = time.perf_counter(), 0
        queue = deque((root, 0) for root in self._roots())
        while queue:
            key, deep = queue.popleft()
            reached = deep
            if depth and deep >= depth:
                break
            for label, after in self._next(key):
                if isinstance(after, Broken):
                    return self._found(after, key, label, deep + 1, began)
                if after in self._parents:
                    continue
                self._parents[after] = key, label
                wrong = self._wrong(after)
                if wrong is not None:
                    return self._found(wrong, key, label, deep + 1, began)
                queue.append((after, deep + 1))
            if states and len(self._parents) >= states:
                break
        took = time.perf_counter() - began
        return Search(len(self._parents), reached, not queue, took)

    def _roots(self) -> Iterator[Key]:
        """Begin where nothing has happened yet, and where one leads and the other follows."""
        start = self._start()
        for root in (start, self._calmly(start)):
            root = self._afforded(root, self.bounds.budget)  # noqa: PLW2901 - the same place
            if root not in self._parents:
                self._parents[root] = None, ""
                yield root

    def _start(self) -> Key:
        b = Backend(budget=NOTHING, to_grid=self.bounds.quantum)
        members = []
        for who in range(2):
            m, b = self._rules.start(who, Member(), b)
            members.append(m)
        keep = self._store.keep
        return self._normal(keep(members[0]), keep(members[1]), keep(b))

    def _calmly(self, key: Key) -> Key:
        """Go on, always by the first move, until one leads and nothing is left but time."""
        while True:
            label, after = next(self._next(key))
            leads = any(self._state(m) is State.LEADING for m in key[:2])
            if isinstance(after, Broken) or (leads and label.endswith(TIME)):
                return key
            key = after

    def _afforded(self, key: Key, budget: Budget) -> Key:
        backend = replace(self._store.values[key[2]], budget=budget)
        return self._normal(key[0], key[1], self._store.keep(backend))

    def _state(self, number: int) -> State | None:
        standing = self._store.values[number].standing
        return standing.state if standing else None

    # -- what comes next -------------------------------------------------------------------

    def _next(self, key: Key) -> Iterator[tuple[str, Key | Broken]]:
        for who in range(2):
            for move in self._moves_of(who, key[who], key[2]):
                if isinstance(move, Broken):
                    yield NAMES[who], move
                    continue
                label, m, b = move
                yield f"{NAMES[who]} {label}", self._react(key, who, m, b)
        yield from self._time_passes(key)

    def _moves_of(self, who: int, m: int, b: int) -> list[tuple[str, int, int] | Broken]:
        known = self._moves.get((who, m, b))
        if known is None:
            known = self._moves[who, m, b] = []
            values, keep = self._store.values, self._store.keep
            try:
                for label, after, backend in self._rules.of(who, values[m], values[b]):
                    known.append((label, keep(after), keep(backend)))
            except Broken as broken:
                known.append(broken)
        return known

    def _react(self, key: Key, who: int, m: int, b: int) -> Key | Broken:
        """Let both members see what has changed around them."""
        members = [key[0], key[1]]
        members[who] = m
        try:
            for n in (who, 1 - who):
                members[n], b = self._settle(n, members[n], b, key[2])
        except Broken as broken:
            return broken
        return self._normal(members[0], members[1], b)

    def _settle(self, who: int, m: int, b: int, seen: int) -> tuple[int, int]:
        known = self._settled.get((who, m, b, seen))
        if known is None:
            values, keep = self._store.values, self._store.keep
            after, backend = self._rules.settle(who, values[m], values[b], values[seen].view)
            known = self._settled[who, m, b, seen] = keep(after), keep(backend)
        return known

    def _time_passes(self, key: Key) -> Iterator[tuple[str, Key | Broken]]:
        by = min(self._time_left(who, key[who]) for who in range(2))
        by = min([by, self._store.values[key[2]].to_grid, *self._gates_left(key)])
        if by <= 0:
            return
        values, keep = self._store.values, self._store.keep
        b, members = values[key[2]], []
        b = replace(b, to_grid=round(b.to_grid - by, 6) or self.bounds.quantum)
        try:
            for who, rate in enumerate(self.bounds.rates):
                m, b = self._rules.later(who, values[key[who]], b, round(by * rate, 6))
                members.append(m)
            b_number = keep(b)
            moved = (keep(members[0]), keep(members[1]), key[2])
            yield f"{by:.3f}{TIME}", self._react(moved, 0, moved[0], b_number)
        except Broken as broken:
            yield f"{by:.3f}{TIME}", broken

    def _time_left(self, who: int, m: int) -> float:
        known = self._left.get((who, m))
        if known is None:
            left = self._rules.patience_left(self._store.values[m])
            known = self._left[who, m] = round(left / self.bounds.rates[who], 6)
        return known

    def _gates_left(self, key: Key) -> list[float]:
        entries = self._store.values[key[2]].entries
        return [entry.fed for entry in entries if entry.fed > 0]

    # -- normal forms ----------------------------------------------------------------------

    def _normal(self, *parts: int) -> Key:
        found = frozenset[int]().union(*(self._store.numbers[part] for part in parts))
        names = ranks(found)
        first, second, backend = (self._rename(part, names) for part in parts)
        return first, second, backend

    def _rename(self, part: int, names: dict[int, int]) -> int:
        key = part, tuple(names[n] for n in sorted(self._store.numbers[part]))
        known = self._renamed.get(key)
        if known is None:
            value = self._store.values[part]
            serials: set[int] = set()
            if isinstance(value, Member):
                value = tidy(value, planned=self.bounds.budget.plan > 0)
                serials_in(value, serials)
            value = renumber(value, names, ranks(serials))
            known = self._renamed[key] = self._store.keep(value)
        return known

    # -- the verdict -----------------------------------------------------------------------

    def _wrong(self, key: Key) -> Broken | None:
        values = self._store.values
        members, b = (values[key[0]], values[key[1]]), values[key[2]]
        acting = [n for n, m in enumerate(members) if m.acts and not m.excused]
        if len(acting) > 1:
            terms = " and ".join(f"{NAMES[n]} with term {members[n].acts}" for n in acting)
            return Broken("I1", f"{terms} act at the same time")
        for n, m in enumerate(members):
            s = m.standing
            leads = m.life == "alive" and s is not None and s.state is State.LEADING
            if leads and s.lease is not None and m.acts != s.lease.term:
                return Broken("I5", f"{NAMES[n]} leads although its service was restarted")
        leaders = [n for n, entry in enumerate(b.entries) if entry.leads]
        if len(leaders) > 1:
            return Broken("I2", "both resolve as leader")
        for n in leaders:
            hook = members[n].hook
            if hook is not None and hook.effect.change.event is HookEvent.PROMOTE:
                return Broken("I2", f"{NAMES[n]} resolves as leader before its promote has ended")
        return None

    # -- the way there ---------------------------------------------------------------------

    def _found(self, broken: Broken, key: Key, last: str, deep: int, began: float) -> Search:
        steps: list[str] = [last]
        keys: list[Key] = [key]
        while (parent := self._parents[keys[-1]])[0] is not None:
            steps.append(parent[1])
            keys.append(parent[0])
        lines = self._timeline(keys[::-1], steps[::-1])
        took = time.perf_counter() - began
        return Search(
            len(self._parents), deep, False, took, broken.promise, broken.what, tuple(lines)
        )

    def _timeline(self, keys: list[Key], steps: list[str]) -> Iterator[str]:
        """Yield each move with its time, and with the states that it led to."""
        at = 0.0
        for n, label in enumerate(steps):
            before, after = keys[n], keys[n + 1] if n + 1 < len(keys) else None
            if label.endswith(TIME):
                at += float(label.split()[0])
            yield f"{at:9.3f}  {label}"
            for who in range(2) if after else ():
                assert after is not None
                old, new = self._state(before[who]), self._state(after[who])
                if old is not new:
                    yield f"{'':9}      {NAMES[who]}: {old or 'dead'} -> {new or 'dead'}"


WORLDS: dict[str, Bounds] = {
    "killed": Bounds(Budget(kill=1)),
    "stopped": Bounds(Budget(pause=1)),
    "robbed": Bounds(Budget(session=1)),
    "late": Bounds(Budget(late=1)),
    "robbed and late": Bounds(Budget(session=1, late=1)),
    "robbed and killed": Bounds(Budget(kill=1, session=1)),
    "robbed and stopped": Bounds(Budget(pause=1, session=1)),
    "robbed and cut off": Bounds(Budget(session=1, cut=1)),
    "the same, clocks apart": Bounds(Budget(session=1, cut=1), rates=(0.953, 1.047)),
    "late twice": Bounds(Budget(session=1, late=2)),
    "hooks fail": Bounds(Budget(hook=2, stop=1)),
    "unfit": Bounds(Budget(health=1, stop=1)),
    "planned": Bounds(Budget(health=1, plan=1)),
    "restarted": Bounds(Budget(kill=1, restart=1), verify=0.25),
    "restarted unwatched": Bounds(Budget(pause=1, restart=1), verify=0.25),
    "restarted in a pause": Bounds(Budget(plan=1, restart=1), verify=0.25),
}
"""Small worlds, each with a fault or a pair of them: what is wrong takes no more to show."""


def main(options: argparse.Namespace) -> int:
    """Search the small worlds; exit code 1 when a promise is broken in any of them."""
    failed = False
    for name, bounds in WORLDS.items():
        found = Explorer(bounds).run(states=options.states, depth=options.depth)
        if found.broken:
            print(found.story())
            failed = True
        how = "all there are" if found.exhausted else "not all"
        print(
            f"world {name!r}: {found.states} states ({how}), paths of up to {found.depth} moves, "
            f"{found.seconds:.1f} s, {'BROKEN' if found.broken else 'every promise kept'}"
        )
    return int(failed)
