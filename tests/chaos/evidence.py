"""Evidence: JSON lines, each with its time ``t`` on the one clock and its ``kind``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.clock import now

Line = dict[str, Any]


class Writer:
    """Appends lines to one file; any thread may write. Nothing is buffered."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
        self._mutex = threading.Lock()

    def write(self, kind: str, t: float | None = None, **fields: Any) -> float:
        """Write a line; the time is now unless given. Returns it."""
        at = now() if t is None else t
        data = json.dumps({"t": round(at, 6), "kind": kind, **fields}).encode() + b"\n"
        with self._mutex:
            self._file.write(data)
        return at

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> Iterator[Line]:
    """Lines of a file, whole ones only: a killed writer may have left half a line."""
    with open(path, "rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield json.loads(raw)


def read_all(folder: Path) -> list[Line]:
    """The lines of all files of a folder, in the order of time."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in read(path)]
    return sorted(lines, key=lambda line: float(line["t"]))
