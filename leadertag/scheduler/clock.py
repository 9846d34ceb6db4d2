"""Local time: monotonic, and running through suspend."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the scheduler measures by. Injected, so that tests own the time."""

    def now(self) -> float:
        """Return seconds since some fixed moment of this boot."""

    def boot(self) -> str:
        """Return what names this boot: times of another one mean nothing."""


class SystemClock:
    """``CLOCK_BOOTTIME``: unlike ``CLOCK_MONOTONIC`` it goes on while the host sleeps."""

    def now(self) -> float:
        """Return seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """Return the kernel's boot id."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def wall_time() -> str:
    """Return the wall-clock time, ISO 8601 UTC. For people; nothing is decided by it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
