"""From file, environment and options to :class:`Settings`.

Options win over ``LEADERTAG_*``, these over the file, this over the backend's native
variables (which its own provider reads), these over defaults. Each layer's values are
checked where they are read, so that a message names the file, the variable or the option
that is to be changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leadertag.config import file as config_file
from leadertag.config import trust
from leadertag.config.elections import check_conflicts, read_election
from leadertag.config.environment import PREFIX, Variables, match, read_variables
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.config.table import Table
from leadertag.config.values import checked_name
from leadertag.errors import ConfigError, did_you_mean

KINDS = ("lock", "registry", "query")
_PATHS = ("state_dir", "watchdog")
DEFAULT_BACKEND = "consul"
DEFAULTS = "defaults"
"""``Settings.source`` where no file was read."""
_SYSTEM_STATE = "/var/lib/leadertag"


@dataclass(frozen=True, slots=True)
class Options:
    """The layer of the command line, its values already checked.

    ``top`` may have ``backend``, ``lock``, ``registry``, ``query``, ``state_dir``;
    ``elections`` has keys of single elections, as they would stand in the file, and
    ``defaults`` what an election gets that says nothing itself.
    """

    top: Mapping[str, str] = field(default_factory=dict)
    elections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


_NO_OPTIONS = Options()


def load(
    path: str | None = None, *, environ: Mapping[str, str], options: Options = _NO_OPTIONS
) -> Settings:
    """Return the merged and checked configuration; ConfigError in one line.

    ``path`` is the file of ``--config``; without it ``LEADERTAG_CONFIG`` and the usual
    places are tried. No file at all is no error here: a verb may have it all in options.
    """
    found = config_file.find(path, environ)
    source = found or DEFAULTS
    top = Table(config_file.read(found) if found else {}, source)
    variables = read_variables(environ)
    layers = (options.top, variables.top, _top(top))
    kinds = _kinds(layers)
    backends = _backends(_section(top, "backends"))
    origins = _apply_backends(backends, variables, kinds.values())
    elections = _elections(_section(top, "elections"), variables, options)
    top.done()
    check_conflicts(elections)
    settings = Settings(
        **kinds,
        elections=elections,
        state_dir=_path("state_dir", layers, source) or default_state_dir(environ),
        watchdog=_path("watchdog", layers, source),
        backends=backends,
        source=source,
        origins=origins,
    )
    trust.check_settings(settings, environ)
    return settings


def make_election(
    name: str, given: Mapping[str, Any], *,
    defaults: Mapping[str, Any], where: str, environ: Mapping[str, str],
) -> ElectionSettings:  # fmt: skip
    """Make an election of options alone, above what ``LEADERTAG_*`` says for every election."""
    merged = {**defaults, **read_variables(environ).every, **given}
    return read_election(name, Table(merged, where))


def _section(top: Table, key: str) -> Table:
    """Return a table of the file, named for people as ``file: key``."""
    return Table(top.table(key, {}).plain(), f"{top.where}: {key}")


# -- the top ---------------------------------------------------------------------------------


def _top(table: Table) -> dict[str, str]:
    keys = ("backend", *KINDS)
    found = {
        key: checked_name(table.text(key), f"{table.where}: {key}") for key in keys if key in table
    }
    for key in keys:
        table.raw(key, None)
    paths = {key: table.text(key, "") for key in _PATHS}
    return {**found, **{key: path for key, path in paths.items() if key in table}}


def _kinds(layers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return each kind's backend; a query that nobody speaks of is the registry's."""
    found = {kind: _said(kind, layers) for kind in KINDS}
    registry = found["registry"] or DEFAULT_BACKEND
    return {**found, "lock": found["lock"] or DEFAULT_BACKEND, "registry": registry,
            "query": found["query"] or registry}  # fmt: skip


def _said(kind: str, layers: Sequence[Mapping[str, str]]) -> str:
    """Return the backend for a kind: the highest layer that says anything about it wins."""
    for layer in layers:
        if said := layer.get(kind) or layer.get("backend"):
            return said
    return ""


def _path(key: str, layers: Iterable[Mapping[str, str]], source: str) -> str:
    """Return what the highest of the three layers says, ``""`` where none does."""
    names = (f"--{key.replace('_', '-')}", f"{PREFIX}{key.upper()}", f"{source}: {key}")
    for where, values in zip(names, layers, strict=True):
        if key not in values:
            continue
        path = os.path.expanduser(values[key])
        # A relative one would be another for each working directory, and so the lock files.
        if not os.path.isabs(path) or not path.isprintable():
            raise ConfigError(f"{where} = {values[key]!r} must be an absolute path")
        return os.path.normpath(path)
    return ""


def default_state_dir(environ: Mapping[str, str]) -> str:
    """Return where the state of this user is kept when nobody says."""
    if os.geteuid() == 0:
        return _SYSTEM_STATE
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification wants a relative path ignored.
    if os.path.isabs(state):
        return os.path.join(state, "leadertag")
    home = environ.get("HOME") or os.path.expanduser("~")
    if os.path.isdir(home) and os.access(home, os.W_OK):
        return os.path.join(home, ".local", "state", "leadertag")
    # Users of services (consul, which runs health checks) often have no home. State need
    # not outlive the boot; whose directory it is, is checked where it is used.
    return os.path.join(tempfile.gettempdir(), f"leadertag-{os.geteuid()}")


# -- backends --------------------------------------------------------------------------------


def _backends(table: Table) -> dict[str, dict[str, Any]]:
    names = table.keys()
    for name in names:
        checked_name(name, f"{table.where}: the backend's name")
    return {name: _copied(table.table(name).plain()) for name in names}


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in data.items()}


def _apply_backends(
    backends: dict[str, dict[str, Any]], variables: Variables, used: Iterable[str]
) -> dict[str, str]:
    """Lay the variables over the file's tables; return which ones, by backend."""
    origins = {}
    known = dict.fromkeys([*backends, *used])
    for written, values in variables.backends.items():
        names = match(written, known) or [written.lower()]
        first = next(iter(values))
        if len(names) > 1:
            raise ConfigError(f"{first}: could mean {' or '.join(map(repr, names))}")
        for variable, (path, value) in values.items():
            _put(backends.setdefault(names[0], {}), path, value, variable)
        origins[names[0]] = ", ".join(values)
    return origins


def _put(table: dict[str, Any], path: tuple[str, ...], value: Any, variable: str) -> None:
    for key in path[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{variable}: {key} is no table")
        table = inner
    table[path[-1]] = value


# -- elections -------------------------------------------------------------------------------


def _elections(
    table: Table, variables: Variables, options: Options
) -> tuple[ElectionSettings, ...]:
    names = table.keys()
    special: dict[str, Mapping[str, Any]] = {}
    for written, values in variables.elections.items():
        special[_election(written, values, names)] = values
    return tuple(
        _election_of(table, name, variables.every, special.get(name, {}), options) for name in names
    )


def _election_of(
    table: Table, name: str, every: Mapping[str, Any], special: Mapping[str, Any], options: Options
) -> ElectionSettings:
    own = table.table(name)
    chosen = options.elections.get(name, {})
    merged = {**options.defaults, **own.plain(), **every, **special, **chosen}
    return read_election(name, Table(merged, own.where))


def _election(written: str, values: Mapping[str, Any], names: Iterable[str]) -> str:
    found = match(written, names)
    variable = f"LEADERTAG_ELECTIONS__{written}__{next(iter(values)).upper()}"
    if not found:
        near = did_you_mean(written.lower(), names)
        raise ConfigError(f"{variable}: there is no election {written.lower()!r}{near}")
    if len(found) > 1:
        raise ConfigError(f"{variable}: could mean {' or '.join(map(repr, found))}")
    return found[0]
