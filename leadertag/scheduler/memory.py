"""The member's lock file: who speaks for a member, and what survives its process.

Two files a member in the state directory. ``NAME.lock`` is held (flock) by the one
process that speaks for the member - the daemon, or a run of ``check`` - and names it;
the kernel frees it when that process ends, however it ends. ``NAME.json`` is the memory;
its times count only within the boot that it names.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from leadertag.config.values import LONGEST_TIME
from leadertag.election.events import Memory
from leadertag.errors import ConfigError
from leadertag.model import Lease, Record
from leadertag.scheduler.clock import Clock

log = logging.getLogger(__name__)
_CONFIRMED = struct.Struct("<d36s")
_DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading a memory may raise that no leadertag has written like that."""


class MemberFile:
    """One member's lock and memory."""

    def __init__(self, state_dir: str, key: str, member: str, clock: Clock) -> None:
        self._open(state_dir, f"{_safe(key)}@{_safe(member)}", clock)

    def _open(self, state_dir: str, name: str, clock: Clock) -> None:
        self._dir = Path(state_dir)
        self._lock_path = self._dir / f"{name}.lock"
        self._memory_path = self._dir / f"{name}.json"
        self._confirmed_path = self._dir / f"{name}.confirmed"
        self._confirmed = -1
        self._clock = clock
        self._fd = -1
        self.writer = 0
        """The process that wrote the memory, once loaded; 0 for none."""

    @classmethod
    def only(cls, state_dir: str, key: str, clock: Clock) -> MemberFile | None:
        """Return the one member of that election that this host remembers, if it is one."""
        found = []
        with suppress(OSError):  # a directory that cannot be read remembers nothing
            found = list(Path(state_dir).glob(f"{_safe(key)}@*.json"))
        if len(found) != 1:
            return None
        file = cls.__new__(cls)
        file._open(state_dir, found[0].stem, clock)
        return file

    def take(self, holder: Mapping[str, Any]) -> bool:
        """Become the one process that speaks for the member; tell if it worked.

        ``holder`` is left in the lock file for whoever comes later. Raises ConfigError when
        the state directory cannot be used.
        """
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            self._fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"state_dir {self._dir}: {error.strerror}; name another one with --state-dir"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.give_back()
            return False
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"pid": os.getpid(), **holder}).encode(), 0)
        return True

    def _check_owner(self) -> None:
        """Refuse a directory in which somebody else could write what is believed here."""
        status = self._dir.stat()
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
            raise ConfigError(
                f"state_dir {self._dir}: others can write there; it must belong to this user "
                "alone (mode 0700)"
            )

    def holder(self) -> dict[str, Any]:
        """Return what the present holder says of itself."""
        try:
            data = json.loads(self._lock_path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        named = isinstance(data, dict) and isinstance(data.get("socket"), str)
        return data if named else {}

    def give_back(self) -> None:
        """Stop speaking for the member."""
        for descriptor in (self._fd, self._confirmed):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._confirmed = -1

    def load(self) -> Memory | None:
        """Return the memory, or ``None`` when there is none, of this boot, in good order."""
        try:
            data = json.loads(self._memory_path.read_bytes())
            if data.pop("boot") != self._clock.boot():
                return None
            writer, lease = int(data.pop("writer")), data.pop("lease")
            memory = Memory(lease=_lease(lease) if lease else None, **_known(data))
            _check_numbers(memory, self._clock.now())
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            log.warning("%s is not used: %.200r", self._memory_path, error)
            return None
        self.writer = writer
        return replace(memory, confirmed_at=max(memory.confirmed_at, self._last_confirmed()))

    def note_confirmed(self, at: float) -> None:
        """Note when the lock was last confirmed: a restart must not begin that time anew.

        A few bytes in place, several times a second: they outlive the process, no more.
        """
        if self._confirmed < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._confirmed = os.open(self._confirmed_path, flags, 0o600)
        os.pwrite(self._confirmed, _CONFIRMED.pack(at, self._clock.boot().encode()[:36]), 0)

    def _last_confirmed(self) -> float:
        try:
            at, boot = _CONFIRMED.unpack(self._confirmed_path.read_bytes())
        except (OSError, struct.error):
            return 0.0
        ours = boot.rstrip(b"\0") == self._clock.boot().encode()[:36]
        # What nobody can have confirmed yet would keep a leader from ever giving up.
        return float(at) if ours and 0 <= at <= self._clock.now() else 0.0

    def store(self, memory: Memory) -> None:
        """Keep the memory: whole or not at all. Survives the process, not the boot."""
        data = {f.name: getattr(memory, f.name) for f in fields(memory)}
        data["lease"] = memory.lease and {
            **asdict(memory.lease),
            "record": memory.lease.record.encode().decode(),
        }
        data["boot"], data["writer"] = self._clock.boot(), os.getpid()
        handle, draft = tempfile.mkstemp(dir=self._dir, prefix=".memory-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(data, file)
            os.replace(draft, self._memory_path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _known(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a memory, checked; those of a later version are left out."""
    known: dict[str, Any] = {}
    for item in fields(Memory):
        if item.name not in data:
            continue
        value = data[item.name]
        kind = (int, float) if item.default is None else type(item.default)
        allowed = (int, float) if kind is float else kind
        may_lack = item.default is None and value is None
        if not may_lack and (
            not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool)
        ):
            raise TypeError(f"{item.name} is {value!r}")
        known[item.name] = value
    return known


def _check_numbers(memory: Memory, now: float) -> None:
    """Raise ValueError for numbers that no leadertag has written during this boot.

    A wait that began in the future would last for ever, and one that lies long past, of a
    clock that is no number, would be over: neither may decide who leads.
    """
    for item in fields(Memory):
        value = getattr(memory, item.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if isinstance(item.default, int):  # a term or an index
            sane = 0 <= value < 2**63
        else:
            past = item.name.endswith(("_at", "_since"))
            sane = math.isfinite(value) and 0 <= value <= (now if past else now + LONGEST_TIME)
        if not sane:
            raise ValueError(f"{item.name} is {value!r}")


def _lease(data: dict[str, Any]) -> Lease:
    record = Record.decode(data.pop("record"))
    if record is None:
        raise ValueError("no record")
    lease = Lease(record=record, **data)
    for name, kind in (("key", str), ("session", str), ("term", int), ("index", int)):
        if type(getattr(lease, name)) is not kind:
            raise TypeError(f"the lease's {name} is {getattr(lease, name)!r}")
    if not (0 < lease.term < 2**63 and 0 < lease.index < 2**63):
        raise ValueError(f"the lease has term {lease.term} and index {lease.index}")
    return lease
