"""A strike says all that there is to choose about one fault (or one operator's wish).

So a list of them is a schedule: it can be replayed, written by hand, and shortened.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Strike:
    """One fault: when (real-world seconds), whom (by number), what (by name in FAULTS)."""

    at: float
    host: int
    what: str
    lasting: float = 0.5
    """How long it lasts: from 0 to 1, within what that fault allows."""
    coins: int = 0
    """Choices that some faults have: two bits."""

    def __str__(self) -> str:
        return (
            f"{self.at:9.3f}  m{self.host + 1:<7}  {self.what} "
            f"(lasting={self.lasting:.2f}, coins={self.coins})"
        )

    @property
    def first(self) -> bool:
        """The first choice."""
        return bool(self.coins & 1)

    @property
    def second(self) -> bool:
        """The second choice."""
        return bool(self.coins & 2)
