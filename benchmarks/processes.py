"""What a daemon and its helpers cost, as the kernel counts it: /proc alone is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_KINDS = (("guardian", b"leadertag.daemon.guardian"), ("worker", b"leadertag.hooks.worker"))
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Process:
    """One process of a daemon's family: ``kind`` is daemon, guardian, worker or other."""

    pid: int
    kind: str


def family(daemon: int) -> tuple[Process, ...]:
    """Return the daemon and all that descends from it."""
    parents = _parents()
    found, wanted = [Process(daemon, "daemon")], {daemon}
    for pid in sorted(parents):  # a child's id may be the smaller one: then another turn finds it
        if parents[pid] in wanted:
            wanted.add(pid)
            found.append(Process(pid, _kind(pid)))
    return tuple(found)


def cpu_seconds(processes: Iterable[Process]) -> dict[str, float]:
    """Return the CPU time used so far, user and system together, by kind."""
    used: dict[str, float] = {}
    for process in processes:
        with suppress(OSError):
            words = _after_name(process.pid)
            seconds = (int(words[11]) + int(words[12])) / _TICKS
            used[process.kind] = used.get(process.kind, 0.0) + seconds
    return used


def pss_bytes(processes: Iterable[Process]) -> dict[str, int]:
    """Return the proportional set size by kind: shared pages count by the number of sharers."""
    sizes: dict[str, int] = {}
    for process in processes:
        with suppress(OSError):
            text = (_PROC / str(process.pid) / "smaps_rollup").read_text()
            line = next(line for line in text.splitlines() if line.startswith("Pss:"))
            sizes[process.kind] = sizes.get(process.kind, 0) + int(line.split()[1]) * 1024
    return sizes


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(os.listdir(_PROC / str(pid) / "task"))


def connections(processes: Iterable[Process], ports: Collection[int]) -> tuple[str, ...]:
    """Return the own ends, ``address:port``, of established TCP connections to those ports."""
    inodes = set().union(*(_sockets(process.pid) for process in processes))
    found = []
    for table in ("tcp", "tcp6"):
        for line in (_PROC / "self" / "net" / table).read_text().splitlines()[1:]:
            words = line.split()
            port = int(words[2].rpartition(":")[2], 16)
            if words[3] == _ESTABLISHED and port in ports and words[9] in inodes:
                found.append(_written(words[1]))
    return tuple(found)


def open_files(processes: Iterable[Process], which: Callable[[str], bool]) -> int:
    """Return how many descriptors those processes have of files with such paths."""
    return sum(which(file) for process in processes for file in _descriptors(process.pid))


def calls(processes: Iterable[Process]) -> Mapping[str, int]:
    """Return the read and write system calls made so far."""
    found = {"read calls": 0, "write calls": 0}
    for process in processes:
        with suppress(OSError):
            lines = (_PROC / str(process.pid) / "io").read_text().splitlines()
            counts = dict(line.split(": ") for line in lines)
            found["read calls"] += int(counts["syscr"])
            found["write calls"] += int(counts["syscw"])
    return found


def _parents() -> dict[int, int]:
    found = {}
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            found[int(folder.name)] = int(_after_name(int(folder.name))[1])
    return found


def _after_name(pid: int) -> list[str]:
    """The words of /proc/PID/stat from the state on: the name before may contain anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _kind(pid: int) -> str:
    with suppress(OSError):
        command = (_PROC / str(pid) / "cmdline").read_bytes()
        return next((kind for kind, mark in _KINDS if mark in command), "other")
    return "other"


def _descriptors(pid: int) -> list[str]:
    folder, found = _PROC / str(pid) / "fd", []
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(OSError):
                found.append(os.readlink(folder / number))
    return found


def _sockets(pid: int) -> set[str]:
    prefix = "socket:["
    return {t.removeprefix(prefix)[:-1] for t in _descriptors(pid) if t.startswith(prefix)}


def _written(end: str) -> str:
    """Return ``127.0.0.1:80`` for the kernel's ``0100007F:0050`` (the last four bytes of IPv6)."""
    address, _, port = end.rpartition(":")
    last = bytes.fromhex(address[-8:])
    return f"{'.'.join(str(byte) for byte in reversed(last))}:{int(port, 16)}"
