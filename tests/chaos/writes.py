"""The acknowledged writes: by whom, whether they are still there, and if not, why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos.evidence import Line
from tests.chaos.verdict import Finding, Span

FIRST_SHOWN = 20


@dataclass
class Writes:
    """Counts of acknowledged entries."""

    acknowledged: int = 0
    by_resolving: int = 0
    """Of the client that asks the query."""
    survived: int = 0
    lost_to_replication: int = 0
    """Acknowledged by the rightful leader, which died or was cut off before it had passed
    them on: Redis replicates asynchronously."""
    lost_to_two_leaders: int = 0
    """Acknowledged by one that was no leader at that moment, and gone: must be 0."""
    outside: int = 0
    """Acknowledged by one that was no leader at that moment, or not the latest, gone or not:
    must be 0."""
    excused: int = 0
    """Acknowledged where the documentation says that I1 does not hold: daemon and guardian
    killed at once."""
    examples: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, int]:
        """The counts."""
        found = asdict(self)
        del found["examples"]
        return found


def judge_writes(lines: Iterable[Line], spans: Sequence[Span]) -> Writes:
    """Hold each acknowledgement against the spans in which its server was the leader."""
    lines = list(lines)
    nodes = _nodes(lines)
    surviving = _surviving(lines)
    of_node: dict[str, list[Span]] = {}
    for span in spans:
        of_node.setdefault(span.node, []).append(span)
    found = Writes()
    for line in lines:
        if line["kind"] == "ack":
            node = nodes.get(str(line["to"]), str(line["client"]))
            covering = [s for s in of_node.get(node, ()) if s.covers(line["sent"], line["t"])]
            latest = [s for s in covering if not _succeeded(s, line["sent"], spans)]
            found.by_resolving += line["client"] not in nodes.values()
            _count(found, line, node, covering, latest, surviving)
    return found


def _succeeded(span: Span, sent: float, spans: Sequence[Span]) -> bool:
    """Whether a later term had begun to act by then."""
    return any(other.term > span.term and other.since <= sent for other in spans)


def _count(
    found: Writes, line: Line, node: str, covering: Sequence[Span], latest: Sequence[Span],
    surviving: Mapping[str, set[int]] | None,
) -> None:  # fmt: skip
    client, number = line["client"], line["n"]
    found.acknowledged += 1
    lost = surviving is not None and number not in surviving.get(client, set())
    found.survived += surviving is not None and not lost
    if covering and all(s.excused is not None and line["t"] >= s.excused for s in covering):
        found.excused += 1
    elif not latest:
        found.outside += 1
        found.lost_to_two_leaders += lost
        if len(found.examples) < FIRST_SHOWN:
            what = f"{node} acknowledged entry {number} of {client} while it was no leader"
            found.examples.append(Finding(line["t"], "I1", what))
    elif lost:
        found.lost_to_replication += 1


def _nodes(lines: Iterable[Line]) -> dict[str, str]:
    """Nodes by their addresses."""
    for line in lines:
        if line["kind"] == "world":
            return {address: node for node, address in line["nodes"].items()}
    return {}


def _surviving(lines: Iterable[Line]) -> dict[str, set[int]] | None:
    """What was there in the end; None when the run did not come to its end."""
    for line in lines:
        if line["kind"] == "surviving":
            return {client: set(numbers) for client, numbers in line["entries"].items()}
    return None
