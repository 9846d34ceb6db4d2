"""Past changes of leader, newest last, with term, reason and the time without a leader.

They are kept in the backend, beside the lock; the oldest go first. VACANT is the time without
a leader as the new one saw it; `-` where it did not see the old one go.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json, table
from leadertag.cli.opened import add_arguments as add_common
from leadertag.cli.opened import opened
from leadertag.plain import one_line

if TYPE_CHECKING:
    from leadertag.history import LeaderChange

_HEADER = ("TERM", "AT", "FROM", "TO", "VACANT", "REASON")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("--limit", type=_count, metavar="N", help="the newest N (default: all)")
    add_common(parser)


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of changes (write 1, 20)")
    return int(word)


def run(args: argparse.Namespace) -> int:
    """Read each election's history and print it."""
    with opened(args) as (providers, elections):
        from leadertag.history import read_changes

        found = [(one.name, read_changes(providers.lock, one.key)) for one in elections]
    if args.limit is not None:
        found = [(name, changes[-args.limit :]) for name, changes in found]
    if args.json:
        print_json({"elections": [_json(*one) for one in found]})
    else:
        print("\n\n".join("\n".join(_text(*one)) for one in found))
    return exits.OK


def _json(name: str, changes: Sequence[LeaderChange]) -> dict[str, Any]:
    return {
        "name": name,
        "changes": [
            {
                "term": change.term,
                "from": change.before,
                "to": change.after,
                "reason": change.reason,
                "at": change.at,
                "vacant_seconds": None if change.vacant is None else round(change.vacant, 3),
            }
            for change in changes
        ],
    }


def _text(name: str, changes: Sequence[LeaderChange]) -> list[str]:
    if not changes:
        return [ascii_only(f"{name}: no change of leader is known")]
    rows = [
        (
            str(change.term),
            one_line(change.at) or "-",
            one_line(change.before) or "-",
            one_line(change.after) or "-",
            "-" if change.vacant is None else f"{change.vacant:.2f}s",
            one_line(change.reason) or "-",
        )
        for change in changes
    ]
    return [ascii_only(name), *(f"  {line}" for line in table([_HEADER, *rows]))]
