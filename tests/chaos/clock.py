"""The one clock that orders all evidence: every process of a run is on this machine."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since boot; no fault of a run touches this clock (the wall clock's jumps do not)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
