"""Members of the embedded backend, in this process and in others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from leadertag.config.table import Table
from leadertag.model import Instance, Lease, Phase, Record
from leadertag.providers import BackendContext, Watch
from leadertag_local import LocalLock, LocalQuery, LocalRegistry
from leadertag_local.beats import Beats, Clock
from leadertag_local.client import LocalClient

PATIENCE = 20.0  # seconds, for whatever should happen soon
KEY = "redis/master"


def context(path: Path | str, node: str = "n1", **settings: Any) -> BackendContext:
    """A context whose backend is that file."""
    return BackendContext(Table({"path": str(path), "node": node, **settings}, "test: local"), {})


class Node:
    """The three providers of one process."""

    def __init__(
        self, path: Path | str, node: str = "n1", clock: Clock | None = None, **settings: Any
    ) -> None:
        made = context(path, node, **settings)
        self.client = LocalClient.of(made)
        if clock is not None:
            self.client.clock = clock
            self.client.beats = Beats(self.client.store.beats_folder, clock)
        self.lock = LocalLock.create(made)
        self.registry = LocalRegistry.create(made)
        self.query = LocalQuery.create(made)
        self.name = node

    def record(self, phase: Phase = Phase.ELECTED) -> Record:
        """A record of this member."""
        return Record(f"{self.name}/redis", "redis", self.name, "127.0.0.1", 6379, phase)

    def take(self, key: str = KEY) -> Lease:
        """Acquire a free lock."""
        lease = self.lock.acquire(self.lock.read(key), self.record())
        assert isinstance(lease, Lease), lease
        return lease

    def give(self, lease: Lease) -> None:
        """Release it with the mark."""
        self.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))

    def instance(self, **fields: Any) -> Instance:
        """An instance to be registered."""
        return replace(Instance("redis", self.name, "redis", "127.0.0.1", 6379), **fields)


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, at: float = 1000.0, boot: bytes = b"bootboot") -> None:
        self.at = at
        self.boot_id = boot

    def now(self) -> float:
        return self.at

    def boot(self) -> bytes:
        return self.boot_id


class Other:
    """Another Python process that runs a script of ours; spoken to line by line."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[3],  # so that it finds `tests`
        )

    def tell(self, word: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Return its next line, decoded from JSON; ``None`` when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ended(self) -> int:
        """Wait until it has ended and return its status."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Kill it if need be."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def others(script: str, *argument_lists: tuple[object, ...]) -> Iterator[list[Other]]:
    """Run the script once for each list of arguments."""
    started: list[Other] = []
    try:
        for arguments in argument_lists:
            started.append(Other(script, *arguments))
        yield started
    finally:
        for other in started:
            other.close()


def drained(watch: Watch) -> None:
    """Take the first snapshot and whatever follows it at once."""
    assert watch.poll(PATIENCE) is not None
    while watch.poll(0.05) is not None:
        pass
