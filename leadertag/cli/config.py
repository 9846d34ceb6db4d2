"""Check the configuration, or show it as it was merged, without secrets.

`check` reads the file, the LEADERTAG_ variables and the options, and looks whether every
backend and hook that is named is installed. With --full it also loads them, so that they
check their own settings and whether the hooks fit the lease; it sends nothing anywhere.
`show` prints the result as TOML, or as JSON.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from leadertag.cli import exits
from leadertag.cli.common import (
    add_backend_options,
    ascii_only,
    load_settings,
    no_elections,
    print_json,
    set_up_logging,
)
from leadertag.cli.parsing import one_of
from leadertag.config.settings import Settings
from leadertag.hookspecs import HookEvent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "action", metavar="check|show", type=one_of(("check", "show")), help="what to do"
    )
    parser.add_argument(
        "--full", action="store_true", help="check: also load the backends and hooks"
    )
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check or show it."""
    set_up_logging(args)
    settings = load_settings(args)
    return _show(args, settings) if args.action == "show" else _check(args, settings)


def _check(args: argparse.Namespace, settings: Settings) -> int:
    from leadertag.config.installed import check_installed

    check_installed(settings)
    _check_timing(settings)
    if args.full:
        _check_fully(settings)
    warnings = list(_warnings(settings))
    names = [election.name for election in settings.elections]
    if args.json:
        print_json({"ok": True, "source": settings.source, "elections": names,
                    "warnings": warnings})  # fmt: skip
        return exits.OK
    told = f"elections: {', '.join(names)}" if names else "no elections"
    print(ascii_only(f"{settings.source}: ok ({_backends(settings)}; {told})"))
    for warning in warnings:
        print(ascii_only(f"warning: {warning}"))
    return exits.OK


def _backends(settings: Settings) -> str:
    kinds = {"lock": settings.lock, "registry": settings.registry, "query": settings.query}
    if len(set(kinds.values())) == 1:
        return f"backend: {settings.lock}"
    return ", ".join(f"{kind}: {name}" for kind, name in kinds.items())


def _warnings(settings: Settings) -> Iterator[str]:
    from leadertag.config.environment import suspicious
    from leadertag.config.installed import unused_backends

    yield from suspicious(os.environ)
    if not settings.elections:
        yield no_elections(settings)
    for name in unused_backends(settings):
        yield f"backends.{name} is not used by lock, registry or query"


def _check_timing(settings: Settings) -> None:
    """Check the lease against the hooks that name ``demote`` or ``fence`` themselves.

    What the others handle is known only when they are loaded: at the start, or with --full.
    """
    from leadertag.election.policy import check_timing

    def budget(event: HookEvent) -> float:
        named = (hook for hook in election.hooks if event in (hook.events or ()))
        return sum(hook.timeouts[event] for hook in named)

    for election in settings.elections:
        check_timing(election, demote=budget(HookEvent.DEMOTE), fence=budget(HookEvent.FENCE))


def _check_fully(settings: Settings) -> None:
    from leadertag.backends import check_instances, open_providers
    from leadertag.cli.loaded import hook_runners
    from leadertag.election.policy import check_timing

    providers = open_providers(settings, environ=os.environ)
    providers.close()
    check_instances(settings, providers.registry)
    with hook_runners(settings.elections) as runners:
        for election in settings.elections:
            hooks = runners[election.name]
            check_timing(
                election, demote=hooks.budget(HookEvent.DEMOTE), fence=hooks.budget(HookEvent.FENCE)
            )


def _show(args: argparse.Namespace, settings: Settings) -> int:
    from leadertag.config.show import shown
    from leadertag.config.toml import dumps

    data = shown(settings)
    if args.json:
        print_json(data)
    else:
        print(ascii_only(f"# {settings.source}, with the environment and options merged in"))
        print(dumps(data), end="")
    return exits.OK
