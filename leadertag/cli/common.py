"""What several verbs share: options of the backend, the settings, logging, output."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leadertag.cli.parsing import LEVELS
from leadertag.config.load import KINDS, Options, load
from leadertag.config.secrets import redacted, secrets_in
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.config.values import checked_name
from leadertag.errors import ConfigError, did_you_mean
from leadertag.plain import OneLineFormatter

LEVEL_VARIABLE = "LEADERTAG_LOG_LEVEL"


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which backend, and where state is kept."""
    group = parser.add_argument_group("backend")
    group.add_argument("--backend", metavar="NAME", help="for all kinds (default: consul)")
    for kind in KINDS:
        group.add_argument(f"--{kind}-backend", metavar="NAME", help=f"for the {kind} alone")
    group.add_argument("--state-dir", metavar="DIR", help="lock files and memory of this host")


def load_settings(
    args: argparse.Namespace,
    *,
    elections: Mapping[str, Mapping[str, Any]] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Load the configuration with this command line's options on top."""
    options = Options(_top(args), elections or {}, defaults or {})
    settings = load(args.config, environ=os.environ, options=options)
    args.secrets |= secrets_in("", settings.backends)
    for election in settings.elections:
        for hook in election.hooks:
            args.secrets |= secrets_in("", hook.options)
    return settings


def _top(args: argparse.Namespace) -> dict[str, str]:
    top = {}
    for option, key in {
        "backend": "backend",
        **{f"{kind}_backend": kind for kind in KINDS},
    }.items():
        value = getattr(args, option, None)
        if value is not None:
            top[key] = checked_name(value, f"--{option.replace('_', '-')}")
    if getattr(args, "state_dir", None) is not None:
        # On the command line a relative path is meant from where one stands.
        top["state_dir"] = os.path.abspath(os.path.expanduser(args.state_dir))
    return top


def chosen(settings: Settings, names: Sequence[str]) -> tuple[ElectionSettings, ...]:
    """Return the elections of those names, or all; ConfigError where there are none."""
    if not settings.elections:
        raise ConfigError(no_elections(settings))
    known = {election.name: election for election in settings.elections}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" (there are {', '.join(known)})"
            raise ConfigError(f"{settings.source}: there is no election {name!r}{hint}")
    return tuple(known[name] for name in dict.fromkeys(names)) or settings.elections


def no_elections(settings: Settings) -> str:
    """Return the message for a configuration without elections."""
    from leadertag.config.file import places
    from leadertag.config.load import DEFAULTS

    if settings.source != DEFAULTS:
        return f"{settings.source}: there is no election: add a table [elections.NAME]"
    looked = " or ".join(places(os.environ))
    return f"no configuration: there is no {looked}; name a file with --config or LEADERTAG_CONFIG"


def set_up_logging(args: argparse.Namespace, *, default: str = "warning") -> None:
    """Log to standard error: ``--log-level``, ``-v``, ``LEADERTAG_LOG_LEVEL``, ``default``."""
    level = args.log_level or {0: "", 1: "info"}.get(args.verbose, "debug")
    if not level:
        level = os.environ.get(LEVEL_VARIABLE, "").lower() or default
        if level not in LEVELS:
            near = did_you_mean(level, LEVELS) or f" (there are {', '.join(LEVELS)})"
            raise ConfigError(f"{LEVEL_VARIABLE}: there is no level {level!r}{near}")
    # A script check merges both streams: its output has to begin with leadertag's marker.
    times = "%(asctime)s " if default == "info" else "leadertag: "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"{times}%(levelname)s %(message)s", args))
    root = logging.getLogger()
    # Libraries report what leadertag reports better; they are heard with -vv only.
    root.handlers = [handler if level == "debug" else logging.NullHandler()]
    root.setLevel(level.upper())
    own = logging.getLogger("leadertag")
    own.handlers = [] if level == "debug" else [handler]
    own.setLevel(level.upper())


class _OneLine(OneLineFormatter):
    """Log lines without secrets. Tracebacks stay as they are: they are asked for."""

    def __init__(self, pattern: str, args: argparse.Namespace) -> None:
        super().__init__(pattern)
        self._args = args

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record), self._args.secrets)


def print_json(data: Any) -> None:
    """Print one JSON document; what JSON has no word for (a date, not-a-number) as a string."""
    try:
        text = json.dumps(data, default=str, indent=2, allow_nan=False)
    except ValueError:
        text = json.dumps(json.loads(json.dumps(data, default=str), parse_constant=str), indent=2)
    print(text)


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns, in plain ASCII."""
    plain = [[ascii_only(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in plain
    ]


def ascii_only(text: str) -> str:
    """Return a text that no terminal can misread: escapes in place of the unprintable."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)


def address(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
