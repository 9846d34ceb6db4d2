"""Who leads, who follows, with health, tags and term; read from the backend, without a daemon.

Exit code 0: every election has a leader that carries its tag and passes, and nobody else
does; 1: not so, or in doubt.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leadertag.cli import exits
from leadertag.cli.common import (
    add_backend_options,
    address,
    ascii_only,
    chosen,
    load_settings,
    print_json,
    set_up_logging,
    table,
)
from leadertag.cli.elections import (
    ad_hoc,
    add_election_options,
    given,
    refuse_without_service,
)
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.errors import ConfigError

if TYPE_CHECKING:
    from leadertag.status import ElectionStatus

_HEADER = ("ROLE", "NODE", "ID", "ADDRESS", "HEALTH", "TAGS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("elections", nargs="*", metavar="ELECTION", help="default: all of the file")
    add_election_options(parser)
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Look at each election and print what was found."""
    set_up_logging(args)
    settings = load_settings(args)
    elections = _elections(args, settings)
    from leadertag.backends import open_providers
    from leadertag.status import as_json, look

    providers = open_providers(settings, environ=os.environ)
    try:
        found = [look(providers, election) for election in elections]
    finally:
        providers.close()
    if args.json:
        print_json({"elections": [as_json(status) for status in found]})
    else:
        print("\n\n".join("\n".join(_text(status)) for status in found))
    return exits.UNSETTLED if any(status.problem for status in found) else exits.OK


def _elections(args: argparse.Namespace, settings: Settings) -> Sequence[ElectionSettings]:
    options = given(args)
    refuse_without_service(options)
    if not options:
        return chosen(settings, args.elections)
    if args.elections:
        raise ConfigError(f"--service and the election {args.elections[0]!r} exclude each other")
    return [ad_hoc(settings, options, {})]


def _text(status: ElectionStatus) -> list[str]:
    lines = [ascii_only(_headline(status))]
    if status.problem != status.vacancy:
        lines.append(ascii_only(f"  {status.problem}"))
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
