"""Three instances on the embedded backend: an election, the leader killed, a failover.

Needs nothing but this installation. With redis-server on PATH and the extra `redis` the
instances are real Redis servers that replicate from whoever leads.
"""

from __future__ import annotations

import argparse

from leadertag.cli.common import print_json, set_up_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--plain", action="store_true", help="the built-in service, even where Redis is at hand"
    )


def run(args: argparse.Namespace) -> int:
    """Show it."""
    set_up_logging(args)
    from leadertag import demo

    if not args.json:
        return demo.run(_say, plain=args.plain)
    lines: list[str] = []
    code = demo.run(lines.append, plain=args.plain)
    print_json({"exit_code": code, "lines": [line.strip("\n") for line in lines]})
    return code


def _say(line: str) -> None:
    print(line, flush=True)
