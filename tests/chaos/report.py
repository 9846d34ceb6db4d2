"""The report: one page that needs nothing else, the figures as JSON, and the raw evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Line
from tests.chaos.figures import Figures, distribution, summary
from tests.chaos.timeline import timeline
from tests.chaos.verdict import Finding, Verdict
from tests.chaos.writes import Writes

PROMISES = {
    "I1": "at most one member acts",
    "I2": "at every index at most one is resolved",
    "I3": "terms strictly increase, and every hook is told its own",
    "I4": "nothing else of a registration changes",
    "I5": "there is a leader within the bounds",
    "I6": "a restart in time changes no role",
    "I7": "no doubt is taken for truth",
    "I8": "hooks run one at a time, within their limits",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #fff; --faint: #d9d9de;
  --acting: #2f6fde; --excused: #b58900; --resolved: #2e9e5b; --fault: #d98f3d; --storm: #9b59b6;
  --bad: #d1242f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6ea; --paper: #17181c;
  --faint: #3a3b42; --acting: #6ea0ff; --resolved: #5fd08a; --bad: #ff6b6b; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1080px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 0.5em 0 1.5em; }
th, td { border-bottom: 1px solid var(--faint); padding: 0.2em 0.8em; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.bad { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 9px system-ui, sans-serif; }
svg text.axis { text-anchor: middle; opacity: 0.7; } svg text.lane { font-size: 11px; }
.grid { stroke: var(--faint); stroke-width: 0.5; } .acting { fill: var(--acting); }
.excused { fill: var(--excused); } .resolved { fill: var(--resolved); }
.settled { fill: var(--fault); opacity: 0.55; } .storm { fill: var(--storm); opacity: 0.55; }
.broken { stroke: var(--bad); stroke-width: 2; }
"""


@dataclass(frozen=True)
class Outcome:
    """Everything that a run has to show."""

    run: Mapping[str, Any]
    verdict: Verdict
    figures: Figures
    writes: Writes

    @property
    def events(self) -> list[Finding]:
        """What must not happen however slow the machine is."""
        return [*self.verdict.broken, *self.writes.examples]

    @property
    def broken(self) -> list[Finding]:
        """Every promise that was broken, and every bound that was exceeded."""
        return [*self.events, *self.figures.exceeded]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "run": dict(self.run),
            "promises": {name: _count(self.broken, name) for name in PROMISES},
            "broken": [asdict(finding) for finding in self.events],
            "exceeded": [asdict(finding) for finding in self.figures.exceeded],
            "terms": self.verdict.terms,
            "hooks": self.verdict.hooks,
            "registry states": self.verdict.indexes,
            "published": self.verdict.published,
            "writes": self.writes.as_dict(),
            **summary(self.figures),
        }


def _count(broken: Iterable[Finding], promise: str) -> int:
    return sum(1 for finding in broken if finding.promise == promise)


def write(outcome: Outcome, lines: Sequence[Line], path: Path) -> None:
    """Write the page, and next to it the figures and the evidence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(outcome, lines))
    path.with_suffix(".json").write_text(json.dumps(outcome.as_dict(), indent=1) + "\n")
    with open(path.with_suffix(".jsonl"), "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def page(outcome: Outcome, lines: Sequence[Line]) -> str:
    """The page."""
    run = outcome.run
    word = "broken" if outcome.broken else "kept"
    title = f"leadertag, chaos on {run['backend']}: {len(outcome.figures.faults)} faults, {word}"
    picture = timeline(lines, outcome.verdict.spans, outcome.figures.faults, outcome.broken)
    return "\n".join([
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(', '.join(f'{key}: {value}' for key, value in run.items()))}</p>",
        "<h2>Promises</h2>", _promises(outcome),
        "<h2>Bounds of <code>leadertag explain</code></h2>", _bounds(outcome.figures),
        "<h2>Without a leader, by fault</h2>", _kinds(outcome.figures),
        "<h2>Acknowledged writes</h2>", _writes(outcome.writes),
        "<h2>Timeline</h2>",
        "<p>Wide bars: acting as leader, from the start of promote to the end of demote or fence "
        "(yellow: daemon and guardian were killed at once). Thin bars: resolved as leader. Above: "
        "faults, settled ones orange, overlapping ones purple. Hover for details.</p>",
        picture, "</html>",
    ]) + "\n"  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.2f}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    text = str(value)
    if text.startswith("!"):
        return f'<td class="bad">{escape(text[1:])}</td>'
    return f"<td>{escape(text)}</td>"


def _promises(outcome: Outcome) -> str:
    rows = []
    for name, text in PROMISES.items():
        count = _count(outcome.broken, name)
        rows.append((name, text, f"!broken {count} times" if count else "kept"))
    found = [(f"{f.t:.3f}", f.promise, f"!{f.what}") for f in outcome.broken[:50]]
    table = _table(("", "promise", "verdict"), rows)
    return table + (_table(("at", "promise", "what"), found) if found else "")


def _bounds(figures: Figures) -> str:
    rows: list[Sequence[object]] = []
    for bound in figures.bounds:
        numbers = distribution(bound.observed)
        ratio = f"{bound.ratio:.2f}" if bound.ratio else "-"
        rows.append((
            bound.name, bound.seconds, int(numbers["n"]), numbers.get("median", "-"),
            numbers.get("max", "-"), ratio if bound.tight or not bound.ratio else f"!{ratio}",
        ))  # fmt: skip
    head = ("bound", "seconds", "n", "median", "longest", "bound / longest")
    return _table(head, rows)


def _kinds(figures: Figures) -> str:
    rows: list[Sequence[object]] = []
    for name, faults in figures.by_name().items():
        gone = distribution([fault.leaderless for fault in faults])
        new = distribution([f.new_leader for f in faults if f.new_leader is not None])
        rows.append((
            name, len(faults), gone["median"], gone["max"], int(new["n"]),
            new.get("median", "-"), new.get("max", "-"), ", ".join(faults[0].bounds),
        ))  # fmt: skip
    head = ("fault", "n", "leaderless, median", "max", "changes", "new leader, median", "max",
            "bounds")  # fmt: skip
    return _table(head, rows)


def _writes(writes: Writes) -> str:
    return _table(("", "entries"), [(key.replace("_", " "), value)
                                    for key, value in writes.as_dict().items()])  # fmt: skip
