"""The registry that everybody reads: registrations, checks, gates, by host.

At every index it tells the history who can be resolved as leader (I2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from leadertag.errors import Changed, LeaseLost, NotRegistered
from leadertag.model import Check, Gate, Health, Instance, Lease, LockView, Record, TagChange
from leadertag.testing.history import History
from leadertag.testing.simulator.engine import Engine
from leadertag.testing.simulator.store import Store


@dataclass
class Entry:
    """One instance as the catalog has it."""

    host: str
    tags: tuple[str, ...] = ()
    healthy: bool = True
    """The service's own check."""
    reachable: bool = True
    """The node's check (serfHealth)."""
    checks: dict[tuple[int, str], bool] = field(default_factory=dict)
    """By term and kind: whether that check of a gate passes."""
    beat: float = -1e9
    """Fenced registries alone: when the process last fed its gates."""
    managed: bool = True
    """Whether leadertag speaks for it (or the predecessor)."""

    @property
    def gates(self) -> dict[int, bool]:
        """By term: whether that gate is open, as far as its own checks say."""
        gates: dict[int, bool] = {}
        for (term, _), passes in self.checks.items():
            gates[term] = passes and gates.get(term, True)
        return gates


class Catalog:
    """All registrations of one service."""

    def __init__(
        self, engine: Engine, history: History, store: Store, *, service: str, election: str,
        leader_tag: str, gate_life: float, fenced: bool,
    ) -> None:  # fmt: skip
        self.entries: dict[str, Entry] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Wakes the watches."""
        self._engine = engine
        self._history = history
        self._store = store
        self.service = service
        self.election = election
        self._leader_tag = leader_tag
        self._gate_life = gate_life
        self._fenced = fenced
        self._shown = ""

    def changed(self) -> None:
        """A write was made: see who leads at this index."""
        index = self._store.next_index()
        leaders = [e.host for e in self.entries.values() if e.managed and self._leads(e)]
        self._history.resolvable(self._engine.now, index, leaders)
        self._tell(leaders)
        self.on_change()

    def _tell(self, leaders: list[str]) -> None:
        shown = " and ".join(f"{who} (gate {max(self.entries[who].gates, default=0)})"
                             for who in leaders)  # fmt: skip
        if shown != self._shown:
            self._shown = shown
            self._engine.note("catalog", f"resolves: {shown or 'nobody'}")

    def _leads(self, entry: Entry) -> bool:
        return self._leader_tag in entry.tags and self.passing(entry)

    def leaders(self) -> list[str]:
        """Return who can be resolved as leader now."""
        return [e.host for e in self.entries.values() if self._leads(e)]

    def passing(self, entry: Entry) -> bool:
        """Whether clients get it."""
        return entry.healthy and entry.reachable and all(self._checks(entry).values())

    def _checks(self, entry: Entry) -> dict[tuple[int, str], bool]:
        if not self._fenced or self._engine.now - entry.beat < self._gate_life:
            return entry.checks
        return dict.fromkeys(entry.checks, False)

    def instance(self, entry: Entry) -> Instance:
        """Return it as a provider would."""
        return make_instance(
            self.service, self.election, entry.host, entry.tags, healthy=entry.healthy,
            reachable=entry.reachable, checks=self._checks(entry),
        )  # fmt: skip

    def members(self) -> tuple[Instance, ...]:
        """Return all of them."""
        return tuple(self.instance(entry) for entry in self.entries.values())

    # -- what an agent's registry does here ------------------------------------------------

    def shut_out(self, other: str, lease: Lease) -> None:
        """Set another one's gates critical, under the lease."""
        self._store.prove(lease)
        entry = self.entries.get(other)
        if entry is not None:
            self._shut(entry, set(entry.checks), f"by term {lease.term}")

    def shut_out_lost(self, other: Instance, proof: LockView | Lease) -> None:
        """Set its gates critical, up to the one that was seen, while it can have no lease."""
        if isinstance(proof, Lease):
            self._store.prove(proof)
        elif self._store.view.index != proof.index:
            raise Changed("the lock is not free any more")
        entry = self.entries.get(other.id)
        if entry is not None and other.gate is not None:
            old = {key for key in entry.checks if key[0] <= other.gate}
            self._shut(entry, old, "as lost")

    def _shut(self, entry: Entry, which: set[tuple[int, str]], how: str) -> None:
        if not any(entry.checks[key] for key in which):
            return
        entry.checks = entry.checks | dict.fromkeys(which, False)
        self._engine.note("backend", f"{entry.host} is shut out {how}")
        self.changed()

    # -- what a registry with fenced tags does in one transaction --------------------------

    def _entry(self, host: str) -> Entry:
        if host not in self.entries:
            raise NotRegistered(f"no instance {host}")
        return self.entries[host]

    def tag(self, host: str, change: TagChange, gate: Gate | None) -> None:
        """Change tags, with a closed gate."""
        entry = self._entry(host)
        self._history.registered(host, entry.tags, change.apply(entry.tags))
        entry.tags = change.apply(entry.tags)
        if gate is not None:
            entry.checks.setdefault((gate.term, ""), False)
        self._engine.note("backend", f"{host} has tags {','.join(entry.tags)}")
        self.changed()

    def set_gate(self, host: str, term: int, *, opened: bool) -> None:
        """Open or close a gate that is registered."""
        entry = self._entry(host)
        if (term, "") not in entry.checks:
            raise NotRegistered(f"{host} has no gate of term {term}")
        entry.checks[term, ""] = opened
        self._engine.note("backend", f"gate {term} of {host} {'opens' if opened else 'closes'}")
        self.changed()

    def remove_gates(self, host: str, keep: int | None) -> None:
        """Remove all gates but one."""
        entry = self._entry(host)
        if set(entry.gates) - {keep}:
            entry.checks = {key: v for key, v in entry.checks.items() if key[0] == keep}
            self.changed()

    def beat(self, host: str) -> None:
        """Feed the gates."""
        self._entry(host).beat = self._engine.now

    def publish(
        self, lease: Lease, record: Record, host: str, change: TagChange, gate: Gate | None
    ) -> Lease:
        """Record, tags and gate on the winner, none of them on the others: all or nothing."""
        self._entry(host)
        lease = self._store.replace(lease, record)
        for other in self.entries.values():
            if other.host != host:
                other.tags = tuple(t for t in other.tags if t not in change.add)
                other.checks = {}
        self.tag(host, change, gate)
        return lease

    def prove(self, lease: Lease) -> None:
        """Raise LeaseLost unless the lock is held."""
        if not self._store.holds(lease):
            raise LeaseLost("the lock is not held any more")


def make_instance(
    service: str, election: str, host: str, tags: tuple[str, ...], *, healthy: bool,
    reachable: bool, checks: dict[tuple[int, str], bool],
) -> Instance:  # fmt: skip
    """Return an instance as a provider would make it of what it read."""
    known = [Check("service", _health(healthy)), Check("serfHealth", _health(reachable))]
    for (term, kind), passes in checks.items():
        name = Gate(election, term).id + (f":{kind}" if kind == "latch" else "")
        known.append(Check(name, _health(passes), own=True))
    return Instance(
        host, f"node-{host}", service, "127.0.0.1", 6379, tags, tuple(known),
        gate=max((term for term, _ in checks), default=None),
    )  # fmt: skip


def _health(good: bool) -> Health:
    return Health.PASSING if good else Health.CRITICAL
