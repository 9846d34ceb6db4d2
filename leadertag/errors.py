"""Every error that leadertag raises, in one tree.

A provider translates the errors of its client library at its own border
(``raise BackendUnavailable(...) from error``), so nothing above a provider
ever sees an exception of ``requests``, ``sqlite3`` or ``grpc``.

Rule for every message: one line that says what is wrong, where (file and key,
or address), and what would be right. Never a token, never a password.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LeaderTagError(Exception):
    """Base of everything that leadertag raises on purpose."""


class ConfigError(LeaderTagError):
    """The configuration, an option or an environment variable is wrong."""


class PluginError(LeaderTagError):
    """A plugin cannot be used."""


class PluginNotFound(PluginError):
    """No installed distribution offers a plugin of that name."""


class PluginBroken(PluginError):
    """The plugin is installed but cannot be imported or is of the wrong kind."""


class BackendError(LeaderTagError):
    """A backend did not do what it was asked to."""


class BackendUnavailable(BackendError):
    """No answer in time, no connection, no quorum: nothing is known about the outcome."""


class PermissionDenied(BackendError):
    """The backend understood and refused: a token or a policy is missing."""


class LeaseLost(BackendError):
    """The lock is provably not held any more by this session with this term."""


class Conflict(BackendError):
    """Something else stands where leadertag would write (a foreign value, a taken name)."""


class Changed(BackendError):
    """What was to be replaced is not what was read any more: read it again."""


class NotRegistered(BackendError):
    """The registry knows no instance of the service here."""


class Ambiguous(BackendError):
    """The registry knows several instances of the service here and none was named."""


class HookError(LeaderTagError):
    """A hook failed; the message is what the operator has to read."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known name, or ``""``."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
