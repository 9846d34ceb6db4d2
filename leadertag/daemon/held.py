"""What a guardian knows of one leadership. Nothing but the standard library is imported."""

from __future__ import annotations

from typing import NamedTuple


class Held(NamedTuple):
    """One leadership as the daemon told of it last."""

    election: str
    member: str
    strike_at: float
    """When to end it: seconds of CLOCK_BOOTTIME."""
    writers: list[int]
    """The processes whose memory of it may be."""
    gives_up: bool
    """The daemon was giving it up."""
