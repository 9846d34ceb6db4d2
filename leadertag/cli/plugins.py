"""What is installed: providers with their characteristics, hooks with their events.

A plugin that cannot be loaded is listed with the reason: what it misses may be meant so, and
the exit status is 0 all the same.

`verify NAME` runs the contracts against the installed plugin NAME and the live backend of the
configuration (backends.NAME, and the plugin's own variables), under names of its own. It exits
with 0 when nothing failed, 1 when something did. `new NAME` writes the skeleton of a plugin:
a distribution with three providers, typed, and its tests.
"""

from __future__ import annotations

import argparse
from typing import Any

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json, set_up_logging, table
from leadertag.cli.parsing import one_of
from leadertag.errors import ConfigError

_KINDS = ("lock", "registry", "query")
_OF_VERIFY = ("kind", "harness")
_OF_NEW = ("directory", "hook")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "action", metavar="verify|new", nargs="?", type=one_of(("verify", "new")),
        help="what to do (default: list what is installed)",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the plugin")
    verify = parser.add_argument_group("verify")
    verify.add_argument(
        "--kind", action="append", type=one_of(_KINDS), metavar="KIND",
        help=f"{', '.join(_KINDS)}; can be repeated (default: all that the plugin has)",
    )  # fmt: skip
    verify.add_argument(
        "--harness", metavar="MODULE:CLASS",
        help="a leadertag.testing.contracts.Harness, for what the verbs alone cannot do",
    )  # fmt: skip
    new = parser.add_argument_group("new")
    new.add_argument(
        "--directory", metavar="DIR", help="to be made (default: leadertag-NAME, right here)"
    )
    new.add_argument("--hook", action="store_true", default=None, help="a hook as well")


def run(args: argparse.Namespace) -> int:
    """List the plugins, verify one, or write a new one."""
    set_up_logging(args)
    _refuse_wrong_combinations(args)
    if args.action == "verify":
        from leadertag.cli.plugins_verify import verify

        return verify(args)
    if args.action == "new":
        from leadertag.cli.plugins_new import new

        return new(args)
    return _list(args)


def _refuse_wrong_combinations(args: argparse.Namespace) -> None:
    if args.action and not args.name:
        raise ConfigError(f"plugins {args.action}: name the plugin")
    for action, options in (("verify", _OF_VERIFY), ("new", _OF_NEW)):
        for option in options:
            if args.action != action and getattr(args, option) is not None:
                raise ConfigError(f"plugins: --{option} belongs to plugins {action} NAME")


def _list(args: argparse.Namespace) -> int:
    from leadertag.plugins import PluginInfo, installed

    def describe(plugin: PluginInfo) -> dict[str, Any]:
        able = "events" if plugin.kind == "hook" else "characteristics"
        return {
            "kind": plugin.kind,
            "name": plugin.name,
            "distribution": plugin.distribution,
            "target": plugin.target,
            able: sorted(str(one) for one in getattr(plugin, able)),
            "error": plugin.error,
        }

    found = [describe(plugin) for plugin in installed()]
    if args.json:
        print_json(found)
    else:
        print("\n".join(_text(found)))
    return exits.OK


def _text(found: list[dict[str, Any]]) -> list[str]:
    rows = [("KIND", "NAME", "DISTRIBUTION", "CHARACTERISTICS OR EVENTS")]
    for plugin in found:
        able = plugin.get("events", plugin.get("characteristics"))
        told = "cannot be used, see below" if plugin["error"] else ", ".join(able or ["-"])
        rows.append((plugin["kind"], plugin["name"], plugin["distribution"], told))
    errors = [ascii_only(plugin["error"]) for plugin in found if plugin["error"]]
    return [*table(rows), *(["", *errors] if errors else [])]
