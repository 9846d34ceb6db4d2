"""End the pause of elections: whoever is able may lead again."""

from __future__ import annotations

import argparse

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json
from leadertag.cli.opened import add_arguments, opened

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Resume each election and print what is so now."""
    found = []
    with opened(args) as (providers, elections):
        from leadertag.cli.pause import as_json
        from leadertag.planned import resume
        from leadertag.status import pause_in_words

        for election in elections:
            before, after = resume(providers.lock, election.key)
            found.append(as_json(election.name, after))
            if not args.json:
                said = f"resumed, was {pause_in_words(before)}" if before.paused else "not paused"
                print(ascii_only(f"{election.name}: {said}"), flush=True)
    if args.json:
        print_json({"elections": found})
    return exits.OK
