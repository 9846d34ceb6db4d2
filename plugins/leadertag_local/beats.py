"""Signs of life, outside the database: one small file for each, overwritten in place."""

from __future__ import annotations

import os
import re
import struct
import time
from contextlib import suppress
from typing import Protocol

from leadertag.errors import BackendUnavailable

_LAYOUT = struct.Struct("<qq8s")  # nanoseconds since boot, their complement, the boot
_READS = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,200}")


class Clock(Protocol):
    """The time that all processes of the host share."""

    def now(self) -> float:
        """Return the seconds since the host was booted, suspended or not."""

    def boot(self) -> bytes:
        """Return 8 bytes that are another boot's with practical certainty never."""


class BootClock:
    """The kernel's."""

    def now(self) -> float:
        """Return CLOCK_BOOTTIME in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> bytes:
        """Return the beginning of the kernel's boot id."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))[:8]


class Beats:
    """The folder of signs of life.

    A beat carries the time at which its writer looked at the clock, not that of the write:
    a process that was stopped in between writes an old time, and so cannot bring back to
    life what others have already seen expire.
    """

    def __init__(self, folder: str, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._boot = b""

    def write(self, name: str, at: float) -> None:
        """Note that ``name`` was alive at that time; raise BackendUnavailable."""
        nanoseconds = int(at * 1e9)
        data = _LAYOUT.pack(nanoseconds, ~nanoseconds, self._this_boot())
        path = self._path(name)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, data, 0)
            finally:
                os.close(file)
        except OSError as error:
            raise BackendUnavailable(f"{path}: {error.strerror}") from error

    def read(self, name: str) -> float | None:
        """Return when ``name`` was last alive; ``None``: never since this boot."""
        path = self._path(name)
        for _ in range(_READS):
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise BackendUnavailable(f"{path}: {error.strerror}") from error
            try:
                data = os.pread(file, _LAYOUT.size, 0)
            finally:
                os.close(file)
            if len(data) != _LAYOUT.size:
                continue  # just being made
            nanoseconds, complement, boot = _LAYOUT.unpack(data)
            if nanoseconds == ~complement:
                return nanoseconds / 1e9 if boot == self._this_boot() else None
        return None

    def fresh(self, name: str, life: float, now: float) -> bool:
        """Whether ``name`` was alive within the last ``life`` seconds."""
        at = self.read(name)
        return at is not None and now - at <= life

    def remove(self, name: str) -> None:
        """Forget ``name``."""
        with suppress(OSError):
            os.unlink(self._path(name))

    def names(self) -> list[str]:
        """Return everything that has a beat."""
        try:
            # What else lies there is somebody's, and nothing to be tidied away.
            return [name for name in os.listdir(self._folder) if _NAME.fullmatch(name)]
        except OSError:
            return []

    def _path(self, name: str) -> str:
        # The name comes from a row: one that is damaged must not lead out of the folder.
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BackendUnavailable(f"{self._folder}: {name!r:.80} is no name of a sign of life")
        return os.path.join(self._folder, name)

    def _this_boot(self) -> bytes:
        if not self._boot:
            self._boot = self._clock.boot()
        return self._boot
