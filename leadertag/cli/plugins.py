"""What is installed: providers with their characteristics, hooks with their events.

A plugin that cannot be loaded is listed with the reason: what it misses may be meant so.
"""

from __future__ import annotations

import argparse
from typing import Any

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json, set_up_logging, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options: none of its own."""


def run(args: argparse.Namespace) -> int:
    """List the plugins."""
    set_up_logging(args)
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
