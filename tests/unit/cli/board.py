"""One election on a board: the three providers in memory, and a time that tests own.

What happens while somebody watches is a script: each poll takes its next line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leadertag.errors import BackendError, Changed
from leadertag.model import Check, Health, Instance, LockView, Phase, Record
from leadertag.plan import PLAN, Note, Plan, Switchover

KEY = "redis/q"
Line = Callable[[], None]


def instance(node: str, *tags: str, health: Health = Health.PASSING, own: bool = False) -> Instance:
    checks = (Check("c", health, own=own),)
    return Instance("redis", node, "redis", f"10.0.0.{node[1:]}", 6379, tags, checks)


def record(node: str, term: int, phase: Phase = Phase.LEADING) -> Record:
    since = "2026-01-31T10:00:00Z"
    return Record(
        f"{node}/redis", "redis", node, f"10.0.0.{node[1:]}", 6379, phase, term=term, since=since
    )


class Board:
    """n3 leads redis in term 7, n1 and n2 follow."""

    def __init__(self) -> None:
        self.time = 100.0
        self.lock = self.registry = self.query = self
        self.view = LockView(KEY, 9, "session", record("n3", 7))
        self.all: tuple[Instance, ...] = (
            instance("n1", "sensu", "slave"),
            instance("n2", "sensu", "slave"),
            instance("n3", "sensu", "master"),
        )
        self.own = self.all[0]
        self.notes: dict[tuple[str, str], Note] = {}
        self.writes = 0
        self.before_write: list[Line] = []
        """What happens just before the next writes: others are faster, the backend fails."""
        self.after_write: list[Line] = []
        self.script: list[Line] = []
        self.at_read: list[Line] = []
        self.closed = self.watch_closed = False
        self._index = 20

    # -- time ------------------------------------------------------------------------

    def now(self) -> float:
        return self.time

    def boot(self) -> str:
        return "this one"

    def sleep(self, duration: float) -> None:
        self.time += duration

    # -- what members do ---------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        return Plan.decode(self.notes.get((KEY, PLAN), Note()))

    @plan.setter
    def plan(self, plan: Plan) -> None:
        asks = plan.paused or plan.switchover is not None
        self.put(PLAN, plan.encode() if asks else b"")

    def put(self, name: str, value: bytes, key: str = KEY) -> Note:
        self._index += 1
        self.notes.pop((key, name), None)
        if not value:
            return Note()
        return self.notes.setdefault((key, name), Note(value, self._index))

    def change(self, **fields: Any) -> None:
        """A member writes into the switchover that stands there."""
        asked = self.plan.switchover
        assert asked is not None
        self.plan = replace(self.plan, switchover=replace(asked, **fields))

    def accept(self, node: str) -> None:
        self.change(candidate=f"{node}/redis", session="s2")

    def remove(self) -> None:
        self.plan = replace(self.plan, switchover=None)

    def ask(self, **fields: Any) -> None:
        """Somebody else asks."""
        asked = Switchover(**{"id": "other", "term": 7, "by": "bob@n9", **fields})
        self.plan = replace(self.plan, switchover=asked)

    def release(self) -> None:
        assert self.view.record is not None
        released = replace(self.view.record, phase=Phase.RELEASED)
        self.view = replace(self.view, index=self.view.index + 1, holder="", record=released)

    def lead(self, node: str, term: int = 8, phase: Phase = Phase.LEADING) -> None:
        index = self.view.index + 1
        self.view = LockView(KEY, index, f"session of {node}", record(node, term, phase))

    def fail(self, error: BackendError) -> None:
        raise error

    # -- the providers -----------------------------------------------------------------

    def read(self, key: str) -> LockView:
        if self.at_read:
            self.at_read.pop(0)()
        return replace(self.view, key=key, plan=self.plan)

    def members(self, service: str) -> tuple[Instance, ...]:
        return self.all

    def local(self, service: str, instance_id: str) -> Instance:
        return self.own

    def read_note(self, key: str, name: str) -> Note:
        return self.notes.get((key, name), Note())

    def write_note(self, key: str, name: str, note: Note) -> Note:
        if self.before_write:
            self.before_write.pop(0)()
        if self.read_note(key, name).index != note.index:
            raise Changed("somebody was faster")
        self.writes += 1
        written = self.put(name, note.value, key)
        if self.after_write:
            self.after_write.pop(0)()
        return written

    def watch(self, keys: Sequence[str]) -> Board:
        assert keys == [KEY]
        self.watch_closed = False
        return self

    def poll(self, timeout: float) -> Mapping[str, LockView] | None:
        assert not self.watch_closed
        if not self.script:
            self.time += timeout
            return None
        self.time += 0.25
        self.script.pop(0)()
        return {KEY: replace(self.view, plan=self.plan)}

    def close(self) -> None:
        self.watch_closed, self.closed = True, self.watch_closed
