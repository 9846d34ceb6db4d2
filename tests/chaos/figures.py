"""The figures: how long each fault left the world without a leader, against what was promised."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.evidence import Line
from tests.chaos.nemeses import CUT_OFF, RESTART, UNRESOLVED
from tests.chaos.seen import failed, leaders_in, term_of
from tests.chaos.verdict import Finding, Span

LOOSEST = 3.0
"""A bound that is more than so many times the longest that was observed says too little."""


@dataclass
class Fault:
    """One fault, as the journal and the registry tell of it. Times on the one clock."""

    id: int
    name: str
    node: str
    settled_mode: bool
    t: float
    leader: str
    term: int
    bounds: tuple[str, ...]
    successor: bool
    detected_late: bool
    healed: float | None = None
    settled: float | None = None
    restart: float | None = None
    """Seconds for which a restarted daemon was away."""
    disturbed: bool = False
    """A hook failed or was vetoed meanwhile: the bounds do not speak of that case."""
    leaderless: float = 0.0
    new_leader: float | None = None
    """Seconds until the next term was resolved."""
    unresolved: float | None = None
    """Seconds until the old leader was not resolved any more."""
    stopped: float | None = None
    """Seconds until the old leader did not act any more."""
    changed: bool = False
    """Whether another term led in the end."""

    def observed(self, bound: str) -> float | None:
        """What a bound speaks of, as it was; None where it did not come to that."""
        if bound == RESTART:
            return None if self.changed else self.restart
        if bound == UNRESOLVED:
            return self.unresolved
        if bound == CUT_OFF:
            return self.stopped
        if self.new_leader is not None and self.detected_late and self.unresolved is not None:
            return self.new_leader - self.unresolved
        return self.new_leader


@dataclass(frozen=True)
class BoundFigure:
    """One bound and what was observed of it."""

    name: str
    seconds: float
    observed: tuple[float, ...]

    @property
    def longest(self) -> float:
        """0 when nothing was."""
        return max(self.observed, default=0.0)

    @property
    def ratio(self) -> float | None:
        """The bound in units of the longest observed."""
        return self.seconds / self.longest if self.longest else None

    @property
    def tight(self) -> bool:
        """Whether it says enough."""
        return self.ratio is not None and self.ratio <= LOOSEST


@dataclass
class Figures:
    """All of them."""

    faults: list[Fault] = field(default_factory=list)
    bounds: list[BoundFigure] = field(default_factory=list)
    exceeded: list[Finding] = field(default_factory=list)
    late_restarts: int = 0

    def by_name(self) -> dict[str, list[Fault]]:
        """Settled faults that nothing disturbed, by name."""
        found: dict[str, list[Fault]] = {}
        for fault in self.faults:
            if fault.settled_mode and not fault.disturbed and fault.settled is not None:
                found.setdefault(fault.name, []).append(fault)
        return dict(sorted(found.items()))


def distribution(values: Sequence[float]) -> dict[str, float]:
    """n, median, max."""
    if not values:
        return {"n": 0}
    return {
        "n": len(values),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


@dataclass(frozen=True)
class _State:
    t: float
    leaders: tuple[str, ...]
    term: int


def figures(lines: Sequence[Line], spans: Sequence[Span]) -> Figures:
    """Compute them from evidence, the spans being the verdict's."""
    found = Figures(faults=_faults(lines))
    states = list(_states(lines))
    failures = [line["t"] for line in lines if line["kind"] == "lock" and _out_of_time(line)]
    for fault in found.faults:
        if fault.settled_mode and fault.settled is not None:
            _measure(fault, states, spans)
            fault.disturbed = any(fault.t <= t <= fault.settled for t in failures)
    bounds: list[Line] = next((line["bounds"] for line in lines if line["kind"] == "bounds"), [])
    for bound in bounds:
        found.bounds.append(_judge_bound(found, bound["name"], float(bound["seconds"])))
    return found


def _out_of_time(line: Line) -> bool:
    """Whether a state of the lock tells that hooks did not keep to their limits."""
    return failed(line) or (line["record"] or {}).get("phase") == "stuck"


def _judge_bound(found: Figures, name: str, seconds: float) -> BoundFigure:
    observed = []
    for fault in found.faults:
        if name not in fault.bounds or fault.disturbed or fault.settled is None:
            continue
        if name == RESTART:
            _judge_restart(found, fault, seconds)
        value = fault.observed(name)
        if value is None:
            continue
        observed.append(round(value, 3))
        if value > seconds and name != RESTART:
            what = f"fault {fault.id}, {fault.name}: {value:.2f} s, {name!r} is {seconds:g} s"
            found.exceeded.append(Finding(fault.t, "I5", what))
    return BoundFigure(name, seconds, tuple(observed))


def _judge_restart(found: Figures, fault: Fault, seconds: float) -> None:
    if not fault.changed or fault.restart is None:
        return
    if fault.restart > seconds:
        found.late_restarts += 1
        return
    what = (
        f"fault {fault.id}, {fault.name}: back after {fault.restart:.2f} s of {seconds:g} s, and "
        "yet the term changed"
    )
    found.exceeded.append(Finding(fault.t, "I6", what))


# -- from evidence -----------------------------------------------------------------------------


def _faults(lines: Iterable[Line]) -> list[Fault]:
    found: dict[int, Fault] = {}
    restarts: dict[str, float] = {}
    for line in lines:
        kind = line["kind"]
        if kind == "restarted":
            restarts[line["node"]] = line["took"]
        elif kind == "fault" and line["what"] == "inject":
            found[line["id"]] = _fault(line)
        elif kind == "fault":
            fault = found[line["id"]]
            fault.healed = line["t"]
            if RESTART in fault.bounds:
                fault.restart = restarts.pop(fault.node, None)
        elif kind == "settled":
            found[line["id"]].settled = line["t"]
    return list(found.values())


def _fault(line: Line) -> Fault:
    return Fault(
        id=line["id"], name=line["name"], node=line["node"],
        settled_mode=line["mode"] == "settled", t=line["t"], leader=line["leader"],
        term=line["term"], bounds=tuple(line["bounds"]), successor=line["successor"],
        detected_late=line["late"],
    )  # fmt: skip


def _states(lines: Iterable[Line]) -> Iterable[_State]:
    """The registry's states in the order of indexes: what is seen late is history."""
    newest = -1
    for line in lines:
        if line["kind"] != "registry" or line["index"] < newest:
            continue
        newest = line["index"]
        leaders = leaders_in(line["instances"])
        term = term_of(line["instances"][leaders[0]]) if len(leaders) == 1 else 0
        yield _State(line["t"], tuple(leaders), term)


def _measure(fault: Fault, states: Sequence[_State], spans: Sequence[Span]) -> None:
    end = fault.settled
    assert end is not None
    first = bisect_left(states, fault.t, key=lambda state: state.t)
    last = bisect_left(states, end, key=lambda state: state.t)
    window = states[first:last]
    without: float | None = None
    for state in window:
        if len(state.leaders) == 1:
            if without is not None:
                fault.leaderless += state.t - without
                without = None
            if fault.new_leader is None and state.term > fault.term:
                fault.new_leader = state.t - fault.t
        elif without is None:
            without = state.t
        if fault.leader in state.leaders and state.term == fault.term:
            fault.unresolved = None  # it was back
        elif fault.unresolved is None:
            fault.unresolved = state.t - fault.t
    fault.changed = fault.new_leader is not None
    for span in spans:
        if (span.node, span.term) == (fault.leader, fault.term) and span.until is not None:
            fault.stopped = span.until - fault.t if fault.t < span.until <= end else None


def summary(found: Figures) -> dict[str, Any]:
    """The figures as plain values."""
    return {
        "faults": len(found.faults),
        "settled": sum(1 for fault in found.faults if fault.settled_mode),
        "overlapping": sum(1 for fault in found.faults if not fault.settled_mode),
        "disturbed": sum(1 for fault in found.faults if fault.disturbed),
        "late restarts": found.late_restarts,
        "bounds": [
            {
                "name": bound.name,
                "seconds": bound.seconds,
                **distribution(bound.observed),
                "ratio": round(bound.ratio, 2) if bound.ratio else None,
            }
            for bound in found.bounds
        ],
        "kinds": {
            name: {
                "leaderless": distribution([fault.leaderless for fault in faults]),
                "new leader": distribution(
                    [fault.new_leader for fault in faults if fault.new_leader is not None]
                ),
                "term changed": sum(fault.changed for fault in faults),
            }
            for name, faults in found.by_name().items()
        },
    }
