"""The worst-case times of this configuration, each with the parts that it is made of.

They hold while the backend answers each request within --request (default: 100ms); nothing is
sent to it here. With --interval the times are those of `leadertag check`, run that often.
Where lock and registry are of different backends, or with --promises, it also says which
promises hold and by what.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.config.toml import seconds as written
from leadertag.election.policy import REQUEST
from leadertag.hookspecs import HookEvent

if TYPE_CHECKING:
    from leadertag.backends import Providers
    from leadertag.election.policy import Bound
    from leadertag.promises import Promise


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
    parser.add_argument(
        "--promises", action="store_true",
        help="say what holds, and by what, also where one backend does it all",
    )  # fmt: skip
    add_backend_options(parser)


@dataclass(frozen=True, slots=True)
class Explained:
    """What there is to say of one election."""

    election: ElectionSettings
    bounds: Sequence[Bound]
    promises: Sequence[Promise]


def run(args: argparse.Namespace) -> int:
    """Compute and print the times."""
    set_up_logging(args)
    settings = load_settings(args)
    elections = chosen(settings, args.elections)
    from leadertag.backends import open_providers
    from leadertag.cli.loaded import hook_runners

    providers = open_providers(settings, environ=os.environ)
    try:
        with hook_runners(elections) as runners:
            found = [
                _explained(args, settings, election, providers,
                           {event: runners[election.name].budget(event) for event in HookEvent})
                for election in elections
            ]  # fmt: skip
    finally:
        providers.close()
    if args.json:
        print_json({"elections": [_json(one) for one in found]})
    else:
        in_words = args.promises or settings.lock != settings.registry
        print("\n\n".join("\n".join(_text(one, in_words=in_words)) for one in found))
    return exits.OK


def _explained(
    args: argparse.Namespace, settings: Settings, election: ElectionSettings,
    providers: Providers, budgets: Mapping[HookEvent, float],
) -> Explained:  # fmt: skip
    from leadertag.election.policy import check_timing, explain
    from leadertag.promises import Combination, Times, promises

    demote, fence = budgets[HookEvent.DEMOTE], budgets[HookEvent.FENCE]
    check_timing(election, demote=demote, fence=fence)
    ttl = session_ttl(election, settings.elections, args.interval)
    expiry = providers.lock.session_expiry(ttl)
    combination = Combination.of(providers, expiry)
    bounds = explain(
        election,
        budgets=budgets,
        gate_life=providers.registry.gate_life,
        session_expiry=expiry,
        one_shot_interval=args.interval,
        request=args.request,
        fenced=combination.fenced,
    )
    times = Times(election.lease, demote, fence, one_shot=args.interval is not None)
    return Explained(election, bounds, promises(combination, election, times))


def session_ttl(
    election: ElectionSettings, elections: Sequence[ElectionSettings], interval: float | None
) -> float:
    """Return the TTL in seconds with which the session is opened: a run's own, or the daemon's."""
    if interval is not None:
        return election.lease
    return 2 * max(one.lease for one in elections)


def _json(one: Explained) -> dict[str, Any]:
    return {
        "name": one.election.name,
        "lease": one.election.lease,
        "bounds": [
            {
                "name": bound.name,
                "seconds": round(bound.seconds, 6),
                "parts": [{"name": name, "seconds": part} for name, part in bound.parts],
                "meaning": bound.meaning,
            }
            for bound in one.bounds
        ],
        "promises": [asdict(promise) for promise in one.promises],
    }


def _text(one: Explained, *, in_words: bool) -> list[str]:
    lines = [f"{one.election.name} (lease {written(one.election.lease)})"]
    for bound in one.bounds:
        lines.append(f"  {bound.name}: {written(bound.seconds)}, {bound.meaning}")
        parts = " + ".join(f"{name} {written(part)}" for name, part in bound.parts)
        if len(bound.parts) > 1:
            lines.append(f"    = {parts}")
    if in_words:
        lines.append("  what holds, and by what:")
        for promise in one.promises:
            mark = "" if promise.holds else "LIMITED: "
            lines.append(f"  - {promise.about}: {mark}{promise.text}")
    return lines
