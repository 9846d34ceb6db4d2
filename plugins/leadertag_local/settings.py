"""The settings of the embedded backend: the table ``[backends.local]``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadertag.config.table import Table
from leadertag.errors import ConfigError

PATH_VARIABLE = "LEADERTAG_LOCAL_PATH"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """All times are seconds.

    ``path`` is the database. ``own_folder`` tells that its folder is leadertag's own and may
    be made; the folder of a path that somebody wrote down has to exist.
    """

    path: str
    node: str
    own_folder: bool = False
    timeout: float = 5.0
    """How long a verb waits for another process's transaction."""
    gate_life: float = 2.0
    """An open gate closes when its process has been silent for longer."""
    report_life: float = 15.0
    """A reported health turns critical when it has not been told again for longer."""
    node_meta: Mapping[str, str] = field(default_factory=dict)


def read_settings(table: Table, environ: Mapping[str, str]) -> LocalSettings:
    """Read and check the table; raise ConfigError for whatever is wrong. No I/O."""
    path = table.text("path", "") or environ.get(PATH_VARIABLE, "")
    node = table.text("node", "") or os.uname().nodename
    if "/" in node:
        raise ConfigError(f"{table.where}: node = {node!r} must not contain a slash")
    settings = LocalSettings(
        path=os.path.abspath(os.path.expanduser(path or default_path(environ))),
        node=node,
        own_folder=not path,
        timeout=_positive(table, "timeout", 5.0),
        gate_life=_positive(table, "gate_life", 2.0),
        report_life=_positive(table, "report_life", 15.0),
        node_meta=table.mapping("node_meta", {}),
    )
    table.done()
    return settings


def default_path(environ: Mapping[str, str]) -> str:
    """Return where the file is when nobody says: a folder for the state of this user."""
    if os.geteuid() == 0:
        return "/var/lib/leadertag/leadertag.db"
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification wants a relative path ignored.
    if os.path.isabs(state):
        return os.path.join(state, "leadertag", "leadertag.db")
    home = environ.get("HOME") or os.path.expanduser("~")
    if os.path.isdir(home) and os.access(home, os.W_OK):
        return os.path.join(home, ".local", "state", "leadertag", "leadertag.db")
    # Users of services often have no home; see leadertag.config.load.default_state_dir.
    return os.path.join(tempfile.gettempdir(), f"leadertag-{os.geteuid()}", "leadertag.db")


def _positive(table: Table, key: str, default: float) -> float:
    seconds = table.seconds(key, default)
    if seconds <= 0:
        raise ConfigError(f"{table.where}: {key} must be longer than 0s")
    return seconds
