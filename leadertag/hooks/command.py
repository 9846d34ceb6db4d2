"""``use = "command"``: runs a program at a role change."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from leadertag.errors import ConfigError, HookError
from leadertag.hooks.processes import inherited, run_command
from leadertag.hooks.wire import encode_change
from leadertag.hookspecs import HookEvent, RoleChange, hookimpl

if TYPE_CHECKING:
    from leadertag.config.table import Table
    from leadertag.model import Instance


_DIGITS = 19
"""Of a rank, at most: it has to fit 63 bits."""


class CommandHook:
    """Runs a command, without a shell; its exit status 0 is success.

    The command finds the role change in ``LEADERTAG_*`` variables and as JSON on its
    standard input. It is killed at its time limit with all that it started; what it
    leaves running when it ends in time is left alone. ``command`` is a list of strings,
    ``environment`` a table of further variables, ``cwd`` the directory to run it in.
    Variables with leadertag's own secrets are not passed on (:func:`inherited`).
    """

    # One script for all events often answers 0 to those that it does not know. For these
    # one that would be taken for "the service is stopped for good", or for "it still leads".
    # And that it wrote a number when asked for its rank cannot be expected of it.
    when_named = frozenset({HookEvent.FENCE, HookEvent.RANK, HookEvent.VERIFY})

    def __init__(self, settings: Table) -> None:
        """Read the settings; raises ConfigError."""
        self._command = command_line(settings)
        self._environment = settings.mapping("environment", {})
        self._cwd = settings.text("cwd", "") or None

    def _run(self, change: RoleChange) -> str:
        """Run it; returns what it wrote. Raises HookError for any exit status but 0."""
        environment = {**inherited(), **self._environment, **variables(change)}
        done = run_command(
            self._command,
            stdin=json.dumps(encode_change(change)).encode() + b"\n",
            env=environment,
            cwd=self._cwd,
            timeout=change.timeout,
        )
        if done.status != 0:
            raise HookError(f"{self._command[0]}: {done.describe()}")
        return done.output

    @hookimpl
    def leadertag_before_promote(self, change: RoleChange) -> None:
        """Veto with an exit status other than 0."""
        self._run(change)

    @hookimpl
    def leadertag_promote(self, change: RoleChange) -> None:
        """Run the command."""
        self._run(change)

    @hookimpl
    def leadertag_rank(self, change: RoleChange) -> int:
        """Return the number that stands in the last line of what it wrote."""
        lines = self._run(change).strip().splitlines() or [""]
        said = lines[-1].strip()
        if not (said.isascii() and said.isdecimal() and len(said) < _DIGITS):
            raise HookError(f"{self._command[0]}: a rank is a whole number from 0 up, not {said!r}")
        return int(said)

    @hookimpl
    def leadertag_verify(self, change: RoleChange) -> None:
        """Exit status 0: it still leads. Only where ``events`` names it."""
        self._run(change)

    @hookimpl
    def leadertag_demote(self, change: RoleChange) -> None:
        """Run the command."""
        self._run(change)

    @hookimpl
    def leadertag_fence(self, change: RoleChange) -> None:
        """Run the command; only where ``events`` names it."""
        self._run(change)

    @hookimpl
    def leadertag_follow(self, change: RoleChange) -> None:
        """Run the command."""
        self._run(change)

    @hookimpl
    def leadertag_role_changed(self, change: RoleChange) -> None:
        """Run the command."""
        self._run(change)

    @hookimpl
    def leadertag_leader_changed(self, change: RoleChange) -> None:
        """Run the command."""
        self._run(change)


def command_line(settings: Table, *, required: bool = True) -> tuple[str, ...]:
    """Return the ``command`` of a hook's settings; raises ConfigError.

    A program that is not there (yet) is only warned of: its disk may not be mounted.
    """
    value = settings.raw("command", None)
    if value is None and not required:
        return ()
    example = 'write a list: command = ["/usr/local/bin/program", "argument"]'
    if isinstance(value, str):
        raise ConfigError(f"{settings.where}: command is run without a shell, {example}")
    if value is None or value == []:
        raise ConfigError(f"{settings.where}: command is missing, {example}")
    command = settings.texts("command")
    if shutil.which(command[0]) is None:
        logging.getLogger("leadertag.hooks").warning(
            "%s: command: there is no program %r that could be run", settings.where, command[0]
        )
    return command


def variables(change: RoleChange) -> Mapping[str, str]:
    """Return the ``LEADERTAG_*`` variables; those of the leader are empty where none is known."""
    found = {
        "EVENT": change.event.value,
        "ELECTION": change.election,
        "ROLE": change.role.value,
        "PREVIOUS_ROLE": change.previous_role.value,
        "TERM": str(change.term),
        # The one text that comes from outside; the kernel's strings end at a null.
        "REASON": change.reason.replace("\0", " "),
        **_instance("INSTANCE", change.instance),
        **_instance("LEADER", change.leader),
    }
    return {f"LEADERTAG_{name}": value for name, value in found.items()}


def _instance(prefix: str, instance: Instance | None) -> Mapping[str, str]:
    return {
        f"{prefix}_ID": instance.id if instance else "",
        f"{prefix}_ADDRESS": instance.address if instance else "",
        f"{prefix}_PORT": str(instance.port) if instance else "",
    }
