"""``leadertag plugins verify NAME``: the contracts, the plugin, the backend, and a report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, load_settings, print_json, table
from leadertag.config.secrets import is_secret, redacted
from leadertag.errors import ConfigError, PluginNotFound
from leadertag.plain import printable
from leadertag.plugins import KINDS, Kind, PluginInfo, installed, load_provider
from leadertag.testing.verify.report import Outcome, Verified, as_json, as_text
from leadertag.testing.verify.runner import Findings, Job, run_contracts


def verify(args: argparse.Namespace) -> int:
    """Verify one plugin.

    Raises PluginError for one that cannot be loaded, ConfigError for wrong settings and
    BackendUnavailable when the backend does not answer to begin with.
    """
    job, found = _job(args)
    began = time.monotonic()
    findings = run_contracts(job, _progress)
    verified = Verified(
        plugin=job.name,
        distribution=found[0].distribution,
        settings=job.where,
        declared={one.kind: sorted(map(str, one.characteristics)) for one in found},
        outcomes=[_without_secrets(one, args.secrets) for one in findings.ordered()],
        seconds=time.monotonic() - began,
        harness=findings.harness,
        left=[redacted(line, args.secrets) for line in findings.left],
    )
    _print(args, verified)
    return exits.OK if verified.holds else exits.UNSETTLED


def _job(args: argparse.Namespace) -> tuple[Job, list[PluginInfo]]:
    name = args.name
    infos = [one for one in installed() if one.name == name and one.kind in KINDS]
    offered: list[Kind] = [kind for kind in KINDS if any(one.kind == kind for one in infos)]
    kinds: list[Kind] = [kind for kind in KINDS if kind in (args.kind or offered)]
    for kind in kinds or KINDS[:1]:  # of a plugin that is not there, one kind tells it
        load_provider(kind, name)
    usable = [one for one in infos if not one.error]
    if find_spec("pytest") is None:
        raise PluginNotFound("plugins verify needs pytest: pip install 'leadertag[test]'")
    if args.harness is not None and not all(args.harness.partition(":")):
        raise ConfigError(f"plugins: --harness {args.harness!r}: write MODULE:CLASS")
    settings = load_settings(args)
    variables = settings.origins.get(name)
    where = f"{settings.source}: backends.{name}" + (f" (with {variables})" if variables else "")
    job = Job(
        name=name,
        kinds=kinds,
        offered=[one.kind for one in usable],
        settings=settings.backends.get(name, {}),
        where=where,
        harness=args.harness or "",
    )
    return job, usable


def _without_secrets(one: Outcome, secrets: set[str]) -> Outcome:
    """A plugin may put its whole settings into an error, and pytest shows every value."""
    hidden = secrets | {value for name, value in os.environ.items() if is_secret(name)}
    happened, trace = (redacted(text, hidden) for text in (one.happened, one.trace))
    return replace(one, happened=happened, trace=trace)


def _progress(findings: Findings) -> None:
    """Show a terminal where it stands: some sessions take their time to run out."""
    if sys.stderr.isatty() and findings.running:
        kind, part, _ = findings.tests[findings.running]
        done = f"{len(findings.outcomes)}/{len(findings.tests)} {kind}, {part}"
        print(f"\r\x1b[K{ascii_only(done)}\r", end="", file=sys.stderr, flush=True)


def _print(args: argparse.Namespace, verified: Verified) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if args.json:
        print_json(as_json(verified))
        return
    for line in as_text(verified, table, traces=bool(args.verbose)):
        print(printable(line))
