"""The run as a picture: who acted, who was resolved, and what was done to them. SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tests.chaos.evidence import Line
from tests.chaos.figures import Fault
from tests.chaos.seen import leaders_in
from tests.chaos.settings import NODES
from tests.chaos.verdict import Finding, Span

STRIP = 60.0
"""Seconds in one strip."""
_LEFT, _WIDTH, _LANE, _TOP = 40, 1000, 22, 30
_FAULT_ROWS = 3


@dataclass(frozen=True)
class _Bar:
    since: float
    until: float
    lane: int
    kind: str
    text: str


def timeline(
    lines: Sequence[Line], spans: Sequence[Span], faults: Sequence[Fault], found: Iterable[Finding]
) -> str:
    """One SVG document to stand in a page; its colours are the page's own classes."""
    if not lines:
        return ""
    begin, end = lines[0]["t"], lines[-1]["t"]
    bars = [*_acting(spans, end), *_resolved(lines, end)]
    broken = list(found)
    strips = int((end - begin) // STRIP) + 1
    height = _TOP + _FAULT_ROWS * 12 + _LANE * len(NODES) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 10} '
        f'{strips * height}" role="img" aria-label="timeline">'
    ]
    for number in range(strips):
        since = begin + number * STRIP
        parts.append(f'<g transform="translate(0,{number * height})">')
        parts += _strip(since, begin, bars, faults, broken)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _strip(
    since: float, begin: float, bars: Iterable[_Bar], faults: Iterable[Fault],
    broken: Iterable[Finding],
) -> list[str]:  # fmt: skip
    parts = []
    lanes = _TOP + _FAULT_ROWS * 12
    for second in range(0, int(STRIP) + 1, 10):
        x = _x(since + second, since)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="12" y2="{lanes + _LANE * 3}"/>')
        parts.append(f'<text class="axis" x="{x}" y="9">{since + second - begin:.0f} s</text>')
    for lane, node in enumerate(NODES):
        y = lanes + lane * _LANE + 13
        parts.append(f'<text class="lane" x="2" y="{y}">{node}</text>')
    parts += [_draw(bar, since, lanes) for bar in bars if _inside(bar.since, bar.until, since)]
    parts += _marks(since, faults)
    for finding in broken:
        if since <= finding.t < since + STRIP:
            x = _x(finding.t, since)
            title = escape(f"{finding.promise}: {finding.what}")
            parts.append(
                f'<line class="broken" x1="{x}" x2="{x}" y1="12" y2="{lanes + _LANE * 3}">'
                f"<title>{title}</title></line>"
            )
    return parts


def _draw(bar: _Bar, since: float, lanes: int) -> str:
    left, right = _x(max(bar.since, since), since), _x(min(bar.until, since + STRIP), since)
    y = lanes + bar.lane * _LANE + (3 if bar.kind != "resolved" else 15)
    height = 11 if bar.kind != "resolved" else 4
    width = max(0.8, right - left)
    return (
        f'<rect class="{bar.kind}" x="{left}" y="{y}" width="{width:.1f}" height="{height}">'
        f"<title>{escape(bar.text)}</title></rect>"
    )


def _marks(since: float, faults: Iterable[Fault]) -> list[str]:
    """Faults, named, in rows in which they do not write over one another."""
    parts = []
    free = [0.0] * _FAULT_ROWS
    for fault in faults:
        until = fault.healed or fault.t
        if not _inside(fault.t, until, since):
            continue
        left, right = _x(max(fault.t, since), since), _x(min(until, since + STRIP), since)
        row = min(range(_FAULT_ROWS), key=lambda number: (free[number] > left, free[number]))
        text = f"{fault.id} {fault.name} ({fault.node})"
        free[row] = max(right, left + 5.2 * len(text) + 6)
        y = 22 + row * 12
        kind = "settled" if fault.settled_mode else "storm"
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{y - 7}" width="{max(1.5, right - left):.1f}" '
            f'height="9"><title>{escape(text)}</title></rect>'
            f'<text class="fault" x="{left + 2}" y="{y}">{escape(text)}</text>'
        )
    return parts


def _acting(spans: Iterable[Span], end: float) -> Iterable[_Bar]:
    for span in spans:
        until, excused = span.until or end, span.excused
        text = f"{span.node} acts, term {span.term}; ended by {span.end or 'nothing'}"
        lane = NODES.index(span.node)
        yield _Bar(span.since, until if excused is None else excused, lane, "acting", text)
        if excused is not None:
            yield _Bar(excused, until, lane, "excused", f"{text}; I1 is not promised here")


def _resolved(lines: Iterable[Line], end: float) -> Iterable[_Bar]:
    since: dict[str, float] = {}
    newest = -1
    for line in lines:
        if line["kind"] != "registry" or line["index"] < newest:
            continue
        newest, t = line["index"], line["t"]
        now = leaders_in(line["instances"])
        for node in sorted(since.keys() - set(now)):
            yield _bar_of(node, since.pop(node), t)
        for node in now:
            since.setdefault(node, t)
    for node, t in since.items():
        yield _bar_of(node, t, end)


def _bar_of(node: str, since: float, until: float) -> _Bar:
    text = f"{node} is resolved as leader for {until - since:.2f} s"
    return _Bar(since, until, NODES.index(node), "resolved", text)


def _inside(since: float, until: float, strip: float) -> bool:
    return since < strip + STRIP and until >= strip


def _x(t: float, since: float) -> float:
    return round(_LEFT + (t - since) / STRIP * _WIDTH, 1)
