"""Elections as seen from outside, with their providers: for verbs that need no daemon."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leadertag.cli.common import add_backend_options, chosen, load_settings, set_up_logging
from leadertag.cli.elections import ad_hoc, add_election_options, given, refuse_without_service
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.errors import ConfigError

if TYPE_CHECKING:
    from leadertag.backends import Providers


def add_arguments(parser: argparse.ArgumentParser, about: str = "default: all of the file") -> None:
    """Add the options that name some elections of the file, or describe one without a file."""
    parser.add_argument("elections", nargs="*", metavar="ELECTION", help=about)
    add_election_options(parser)
    add_backend_options(parser)


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[Providers, Sequence[ElectionSettings]]]:
    """Set up logging and yield the providers with the elections that the options name.

    Raises ConfigError or PluginError for what is wrong before anything is sent.
    """
    set_up_logging(args)
    settings = load_settings(args)
    elections = _named(args, settings)
    from leadertag.backends import open_providers

    providers = open_providers(settings, environ=os.environ)
    try:
        yield providers, elections
    finally:
        providers.close()


def one_of_them(elections: Sequence[ElectionSettings]) -> ElectionSettings:
    """Return the only election; ConfigError where there are several to choose from."""
    if len(elections) > 1:
        names = ", ".join(election.name for election in elections)
        raise ConfigError(f"name one election: {names}")
    return elections[0]


def who() -> str:
    """Return ``user@host``: who gave the command, for others to read."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _named(args: argparse.Namespace, settings: Settings) -> Sequence[ElectionSettings]:
    options = given(args)
    refuse_without_service(options)
    if not options:
        return chosen(settings, args.elections)
    if args.elections:
        raise ConfigError(f"--service and the election {args.elections[0]!r} exclude each other")
    return [ad_hoc(settings, options, {})]
