"""What a verification found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KIND_ORDER = ("lock", "registry", "query", "backend")
PASSED, FAILED, NOT_TRIED = "passed", "failed", "skipped"
_LONGEST = 400  # characters of what happened; the rest is seen with -v


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test. ``happened`` is one line; ``trace`` is pytest's, of any number."""

    kind: str
    part: str
    wanted: str
    outcome: str
    happened: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """The whole verification. ``declared``: the characteristics of each kind."""

    plugin: str
    distribution: str
    settings: str
    declared: Mapping[str, Sequence[str]]
    outcomes: Sequence[Outcome]
    seconds: float
    harness: str = ""
    left: Sequence[str] = field(default_factory=tuple)

    def count(self, outcome: str, *, kind: str = "", part: str = "") -> int:
        """Return how many tests came out so: all, or those of one part."""
        return sum(
            one.outcome == outcome
            and (not kind or one.kind == kind)
            and (not part or one.part == part)
            for one in self.outcomes
        )

    @property
    def holds(self) -> bool:
        """Whether something was tried and nothing failed."""
        return self.count(PASSED) > 0 and self.count(FAILED) == 0

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Return the parts, as (kind, part), in the order in which they were run."""
        return list(dict.fromkeys((one.kind, one.part) for one in self.outcomes))

    def reasons(self) -> dict[str, list[Outcome]]:
        """Return the tests that were not tried, by the reason."""
        found: dict[str, list[Outcome]] = {}
        for one in self.outcomes:
            if one.outcome == NOT_TRIED:
                found.setdefault(one.happened, []).append(one)
        return found


def as_json(verified: Verified) -> dict[str, Any]:
    """Return the report as one JSON document."""
    return {
        "plugin": verified.plugin,
        "distribution": verified.distribution,
        "settings": verified.settings,
        "harness": verified.harness,
        "passed": verified.count(PASSED),
        "failed": verified.count(FAILED),
        "not_tried": verified.count(NOT_TRIED),
        "seconds": round(verified.seconds, 1),
        "parts": [
            {
                "kind": kind,
                "part": part,
                "characteristics": list(verified.declared.get(kind, ())),
                "passed": verified.count(PASSED, kind=kind, part=part),
                "failed": verified.count(FAILED, kind=kind, part=part),
                "not_tried": verified.count(NOT_TRIED, kind=kind, part=part),
            }
            for kind, part in verified.parts
        ],
        "failures": [_test(one) for one in verified.outcomes if one.outcome == FAILED],
        "untried": [_test(one) for one in verified.outcomes if one.outcome == NOT_TRIED],
        "left_behind": list(verified.left),
    }


def _test(one: Outcome) -> dict[str, str]:
    return {"kind": one.kind, "part": one.part, "wanted": one.wanted, "happened": one.happened}


def as_text(
    verified: Verified, table: Callable[[Iterable[Sequence[str]]], list[str]], *, traces: bool
) -> Iterator[str]:
    """Yield the report's lines; ``table`` aligns columns. ``traces``: pytest's own, too."""
    harness = f", harness {verified.harness}" if verified.harness else ""
    yield f"{verified.plugin} of {verified.distribution}, {verified.settings}{harness}"
    rows: list[tuple[str, ...]] = [("KIND", "PART", "PASSED", "FAILED", "NOT TRIED", "DECLARED")]
    for kind, part in verified.parts:
        counts = (
            str(verified.count(outcome, kind=kind, part=part))
            for outcome in (PASSED, FAILED, NOT_TRIED)
        )
        rows.append((kind, part, *counts, ", ".join(verified.declared.get(kind, ())) or "-"))
    yield from table(rows)
    for one in verified.outcomes:
        if one.outcome == FAILED:
            yield f"failed: {one.kind}, {one.part}: {one.wanted}: {one.happened}"
            if traces:
                yield from one.trace.splitlines()
    for reason, untried in verified.reasons().items():
        where = ", ".join(dict.fromkeys(f"{one.kind} {one.part}" for one in untried))
        yield f"not tried: {reason}: {len(untried)} of {where}"
    for line in verified.left:
        yield f"left behind: {line}"
    yield (
        f"{verified.count(PASSED)} passed, {verified.count(FAILED)} failed, "
        f"{verified.count(NOT_TRIED)} not tried, in {verified.seconds:.0f} s"
    )


def shortened(text: str) -> str:
    """Return what happened on one line that can be read at a glance.

    Of an assert that is what was wrong, and the first of the values that it shows.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    line = " ".join(" ".join(lines[:2]).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
