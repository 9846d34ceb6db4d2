"""The worst-case times of this configuration, each with the parts that it is made of.

They hold while the backend answers each request within --request (default: 100ms); nothing is
sent to it here. With --interval the times are those of `leadertag check`, run that often.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leadertag.cli import exits
from leadertag.cli.common import (
    add_backend_options,
    chosen,
    load_settings,
    print_json,
    set_up_logging,
)
from leadertag.cli.parsing import seconds
from leadertag.config.settings import ElectionSettings
from leadertag.config.toml import seconds as written
from leadertag.election.policy import REQUEST
from leadertag.hookspecs import HookEvent

if TYPE_CHECKING:
    from leadertag.election.policy import Bound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("elections", nargs="*", metavar="ELECTION", help="default: all of the file")
    parser.add_argument(
        "--interval", type=seconds, metavar="TIME", help="for check, run that often"
    )
    parser.add_argument(
        "--request", type=seconds, metavar="TIME", default=REQUEST,
        help="what one request to the backend takes at most (default: 100ms)",
    )  # fmt: skip
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compute and print the times."""
    set_up_logging(args)
    settings = load_settings(args)
    elections = chosen(settings, args.elections)
    from leadertag.backends import open_providers
    from leadertag.cli.loaded import hook_runners
    from leadertag.election.policy import check_timing, explain

    providers = open_providers(settings, environ=os.environ)
    try:
        found: list[tuple[ElectionSettings, list[Bound]]] = []
        with hook_runners(elections) as runners:
            for election in elections:
                budgets = {event: runners[election.name].budget(event) for event in HookEvent}
                check_timing(
                    election, demote=budgets[HookEvent.DEMOTE], fence=budgets[HookEvent.FENCE]
                )
                ttl = session_ttl(election, settings.elections, args.interval)
                bounds = explain(
                    election,
                    budgets=budgets,
                    gate_life=providers.registry.gate_life,
                    session_expiry=providers.lock.session_expiry(ttl),
                    one_shot_interval=args.interval,
                    request=args.request,
                )
                found.append((election, bounds))
    finally:
        providers.close()
    if args.json:
        print_json({"elections": [_json(*one) for one in found]})
    else:
        print("\n\n".join("\n".join(_text(*one)) for one in found))
    return exits.OK


def session_ttl(
    election: ElectionSettings, elections: Sequence[ElectionSettings], interval: float | None
) -> float:
    """Return the TTL in seconds with which the session is opened: a run's own, or the daemon's."""
    if interval is not None:
        return election.lease
    return 2 * max(one.lease for one in elections)


def _json(election: ElectionSettings, bounds: Sequence[Bound]) -> dict[str, Any]:
    return {
        "name": election.name,
        "lease": election.lease,
        "bounds": [
            {
                "name": bound.name,
                "seconds": round(bound.seconds, 6),
                "parts": [{"name": name, "seconds": part} for name, part in bound.parts],
                "meaning": bound.meaning,
            }
            for bound in bounds
        ],
    }


def _text(election: ElectionSettings, bounds: Sequence[Bound]) -> list[str]:
    lines = [f"{election.name} (lease {written(election.lease)})"]
    for bound in bounds:
        lines.append(f"  {bound.name}: {written(bound.seconds)}, {bound.meaning}")
        parts = " + ".join(f"{name} {written(part)}" for name, part in bound.parts)
        if len(bound.parts) > 1:
            lines.append(f"    = {parts}")
    return lines
