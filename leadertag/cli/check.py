"""One step of one election, to be run as a health check of the service.

Exit code 0: settled, as leader or as follower; 1: not settled or in doubt; 2: failing, or
wrong usage. Works without a daemon; where a daemon of this host runs the election, it is
asked instead.

Nothing acts between two runs. The promise is therefore about resolution: at most one
passing instance carries the leader tag. Whether the service itself still acts as leader
between two runs is beyond it: `leadertag run` promises that too.

The lease has to outlive two runs: by default it is 2 x interval + timeout, and a shorter
one is refused. The output begins with "leadertag: ", by which the check recognises
itself among the checks of the service; with --json, or for its very first run, name it
with --check-id.
"""

from __future__ import annotations

import argparse
import os

from leadertag.cli import exits
from leadertag.cli.common import (
    add_backend_options,
    chosen,
    load_settings,
    no_elections,
    print_json,
    set_up_logging,
)
from leadertag.cli.elections import (
    ad_hoc,
    add_election_options,
    given,
    refuse_without_service,
)
from leadertag.cli.parsing import seconds
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.config.toml import seconds as written
from leadertag.errors import ConfigError
from leadertag.plain import one_line

INTERVAL, TIMEOUT = 10.0, 5.0
"""Seconds: how often the check is run, and how long one run may take, where nobody says."""
EXAMPLE = """\
a Consul check definition:
  {"check": {
    "id": "redis-leader", "name": "redis: who leads", "service_id": "redis",
    "args": ["leadertag", "check", "--service", "redis", "--query", "redis-master",
             "--check-id", "redis-leader"],
    "interval": "10s", "timeout": "10s"
  }}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.epilog = EXAMPLE
    parser.add_argument("--election", metavar="NAME", help="an election of the configuration")
    add_election_options(parser)
    group = parser.add_argument_group("the run")
    add = group.add_argument
    add("--interval", type=seconds, metavar="TIME", help="how often it is run (default: 10s)")
    add("--timeout", type=seconds, metavar="TIME", help="what one run may take (default: 5s)")
    add("--lease", metavar="TIME", help="default: 2 x interval + timeout")
    add("--check-id", dest="check_ids", action="append", metavar="ID",
        help="the id of the check that runs this (repeatable)")  # fmt: skip
    add("--compat", metavar="NAME",
        help="consul-master-election-tagger: share the cluster with that one")  # fmt: skip
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Take one step and print one line."""
    set_up_logging(args)
    args.interval = args.interval or time_variable("LEADERTAG_INTERVAL", INTERVAL)
    args.timeout = args.timeout or time_variable("LEADERTAG_TIMEOUT", TIMEOUT)
    settings, election = find_election(args)
    return step(args, settings, election)


def step(args: argparse.Namespace, settings: Settings, election: ElectionSettings) -> int:
    """Take one step of that election and print its line; returns the exit code."""
    from leadertag.oneshot import check

    own = args.check_ids or os.environ.get("LEADERTAG_CHECK_ID", "").split(",")
    result = check(
        settings,
        election,
        interval=args.interval,
        timeout=args.timeout,
        own_checks=tuple(check_id.strip() for check_id in own if check_id.strip()),
    )
    line = one_line(result.line)
    if args.json:
        print_json({"exit_code": result.exit_code, "line": line, "details": result.details})
    else:
        print(f"leadertag: {line}")
    return result.exit_code if result.exit_code in (exits.OK, exits.UNSETTLED) else exits.FAILING


def find_election(args: argparse.Namespace) -> tuple[Settings, ElectionSettings]:
    """Return the settings and the election that the options or the file describe."""
    options = given(args)
    defaults = {"lease": written(2 * args.interval + args.timeout)}
    if args.election and "service" in options:
        raise ConfigError("--election and --service exclude each other: file or options?")
    if "service" in options:
        settings = load_settings(args)
        return settings, ad_hoc(settings, options, defaults)
    name = args.election or _only_election(args, options)
    settings = load_settings(args, elections={name: options}, defaults=defaults)
    return settings, chosen(settings, [name])[0]


def _only_election(args: argparse.Namespace, options: dict[str, object]) -> str:
    """Return the name of the file's one election."""
    elections = load_settings(args).elections
    if len(elections) == 1:
        return elections[0].name
    if not elections:
        refuse_without_service(options)
        raise ConfigError(f"name a service with --service ({no_elections(load_settings(args))})")
    names = ", ".join(election.name for election in elections)
    raise ConfigError(f"name one election with --election: {names}")


def time_variable(name: str, default: float) -> float:
    """Return a duration from the environment; ConfigError names the variable."""
    value = os.environ.get(name, "")
    if not value:
        return default
    try:
        return seconds(value)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{name}: {error}") from None
