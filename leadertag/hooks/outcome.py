"""What became of one event's hooks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """``ok`` when every hook of the event succeeded (or there was none).

    ``message`` is the first failure, one line; ``rank`` the lowest rank told, where asked;
    ``seconds`` the time taken; ``cancelled`` that it was ended early on purpose.
    """

    ok: bool
    message: str = ""
    rank: int | None = None
    seconds: float = 0.0
    cancelled: bool = False
