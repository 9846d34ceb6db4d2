"""Who leads, who follows, with health, tags and term; read from the backend, without a daemon.

Exit code 0: every election has a leader that carries its tag and passes, and nobody else
does; 1: not so, or in doubt.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from leadertag.cli import exits
from leadertag.cli.common import address, ascii_only, print_json, table
from leadertag.cli.opened import add_arguments, opened

if TYPE_CHECKING:
    from leadertag.status import ElectionStatus

__all__ = ["add_arguments", "run"]
_HEADER = ("ROLE", "NODE", "ID", "ADDRESS", "HEALTH", "TAGS")


def run(args: argparse.Namespace) -> int:
    """Look at each election and print what was found."""
    with opened(args) as (providers, elections):
        from leadertag.status import as_json, look

        found = [look(providers, election) for election in elections]
    if args.json:
        print_json({"elections": [as_json(status) for status in found]})
    else:
        print("\n\n".join("\n".join(_text(status)) for status in found))
    return exits.UNSETTLED if any(status.problem for status in found) else exits.OK


def _text(status: ElectionStatus) -> list[str]:
    lines = [ascii_only(_headline(status))]
    if status.problem != status.vacancy:
        lines.append(ascii_only(f"  {status.problem}"))
    lines += [ascii_only(f"  {line}") for line in _planned(status)]
    if not status.members:
        return lines
    rows = [
        (
            str(status.role(member)),
            member.node,
            member.id,
            address(member.address, member.port),
            str(member.health),
            ",".join(member.tags) or "-",
        )
        for member in status.members
    ]
    return [*lines, *(f"  {line}" for line in table([_HEADER, *rows]))]


def _planned(status: ElectionStatus) -> list[str]:
    from leadertag.status import pause_in_words, switchover_in_words

    plan = status.view.plan
    if plan.foreign:
        return [f"note: what stands in the plan of {status.election.key!r} is not leadertag's"]
    lines = [pause_in_words(plan)] if plan.paused else []
    return lines + ([switchover_in_words(status.switchover)] if status.switchover else [])


def _headline(status: ElectionStatus) -> str:
    election, record = status.election, status.record
    about = f"service {election.service}"
    if election.query:
        about += f", query {election.query}"
    since = f", since {record.since}" if record and record.since else ""
    if status.leader is not None:
        leader = status.leader
        return f"{election.name}: {leader.member} leads, term {leader.term}{since} ({about})"
    term = f", term {record.term}" if record and record.term else ""
    return f"{election.name}: {status.vacancy}{term}{since} ({about})"
