"""One election given by options alone, for ``check`` and ``status``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from leadertag.config.elections import FIELDS
from leadertag.config.load import make_election
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.config.table import Table
from leadertag.config.values import checked_name
from leadertag.errors import ConfigError

OPTIONS = {
    "service": "--service",
    "service_id": "--id",
    "query": "--query",
    "tags": "--tag",
    "leader_tag": "--leader-tag",
    "follower_tag": "--follower-tag",
    "lease": "--lease",
    "compat": "--compat",
}
"""The option for each key of an election."""
WHERE = "options"


def add_election_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe an election without a file."""
    group = parser.add_argument_group("an election without a file")
    add = group.add_argument
    add("--service", metavar="NAME", help="the service, as the registry names it")
    add("--id", dest="service_id", metavar="ID", help="which instance, where a node has several")
    add("--query", metavar="NAME", help="the stored query that answers with the leader")
    add("--tag", dest="tags", action="append", metavar="TAG",
        help="the query asks for it as well as for the leader tag (repeatable)")  # fmt: skip
    add("--leader-tag", metavar="TAG", help="default: master")
    add("--follower-tag", metavar="TAG", help="default: slave")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the options say of an election, each checked under its own name."""
    found = {}
    for key, option in OPTIONS.items():
        value = getattr(args, key, None)
        if value is not None:
            FIELDS[key](Table({key: value}, option))
            found[key] = value
    return found


def ad_hoc(
    settings: Settings, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> ElectionSettings:
    """Return the election that the options describe.

    It bears the name of the file's election for the same lock, if there is one: so a
    daemon that runs that one recognises it.
    """
    name = checked_name(options.get("query") or options["service"], WHERE)
    election = make_election(name, options, defaults=defaults, where=WHERE, environ=os.environ)
    for known in settings.elections:
        if known.key == election.key:
            return make_election(
                known.name, options, defaults=defaults, where=WHERE, environ=os.environ
            )
    return election


def refuse_without_service(options: Mapping[str, Any]) -> None:
    """Refuse options that describe an election but not the service that it is about."""
    if options and "service" not in options:
        first = OPTIONS[next(iter(options))]
        raise ConfigError(f"{first} without --service: which service is meant?")
