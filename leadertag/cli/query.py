"""Resolve a stored query as a client would: one address:port on a line.

Exit code 0: it answers with at least one instance; 1: with none, or there is no such query.
"""

from __future__ import annotations

import argparse
import os
import sys

from leadertag.cli import exits
from leadertag.cli.common import (
    add_backend_options,
    address,
    load_settings,
    print_json,
    set_up_logging,
)
from leadertag.config.values import checked_name
from leadertag.plain import one_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("name", metavar="NAME", help="the query's name")
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Resolve and print."""
    set_up_logging(args)
    name = checked_name(args.name, "NAME")
    settings = load_settings(args)
    from leadertag.backends import open_providers

    providers = open_providers(settings, environ=os.environ)
    try:
        found = providers.query.resolve(name)
    finally:
        providers.close()
    if args.json:
        instances = [
            {"id": one.id, "node": one.node, "address": one.address, "port": one.port}
            for one in found
        ]
        print_json({"query": name, "instances": instances})
    elif found:
        print("\n".join(one_line(address(one.address, one.port)) for one in found))
    else:
        print(f"leadertag: the query {name!r} answers with nobody", file=sys.stderr)
    return exits.OK if found else exits.UNSETTLED
