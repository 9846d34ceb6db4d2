"""``use = "template"``: writes a file from a Jinja2 template at a role change."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from leadertag.errors import ConfigError, HookError
from leadertag.hooks.command import command_line, variables
from leadertag.hooks.processes import inherited, run_command
from leadertag.hookspecs import RoleChange, hookimpl

if TYPE_CHECKING:
    from leadertag.config.table import Table

_DEFAULT_MODE = 0o644


class TemplateHook:
    """Renders ``source`` (a file) or ``text`` into ``destination``, if that changes it.

    The template knows ``event``, ``election``, ``role``, ``previous_role``, ``term``,
    ``reason``, ``instance`` and ``leader`` (or none); an unknown name is an error. The
    file is replaced in one step. ``mode`` ("0644") defaults to that of the file it
    replaces. ``command`` (a list) then runs, until it has once succeeded.
    """

    requires: ClassVar[tuple[str, ...]] = ("jinja2",)

    def __init__(self, settings: Table) -> None:
        """Read the settings; raises ConfigError. The template is compiled when it is used."""
        self._source = settings.text("source", "")
        self._text = settings.text("text", "")
        if ("source" in settings) == ("text" in settings):
            raise ConfigError(f"{settings.where}: give either source (a file) or text")
        if self._source and not os.access(self._source, os.R_OK):
            raise ConfigError(f"{settings.where}: source = {self._source!r} cannot be read")
        # A link stays a link: what it points to is replaced.
        self._destination = os.path.realpath(settings.text("destination"))
        self._mode = _mode(settings)
        self._command = command_line(settings, required=False)
        folder, name = os.path.split(self._destination)
        # Remembers, over a crash too, that the command has not seen the file yet.
        self._owed = os.path.join(folder, f".{name}.leadertag-owed")

    @classmethod
    def preload(cls) -> None:
        """Import Jinja2 ahead of need, in a worker process."""
        import jinja2  # noqa: F401

    @hookimpl
    def leadertag_promote(self, change: RoleChange) -> None:
        """Write the file."""
        self._apply(change)

    @hookimpl
    def leadertag_demote(self, change: RoleChange) -> None:
        """Write the file."""
        self._apply(change)

    @hookimpl
    def leadertag_follow(self, change: RoleChange) -> None:
        """Write the file."""
        self._apply(change)

    def _apply(self, change: RoleChange) -> None:
        content = self._render(change).encode()
        try:
            self._write(content)
        except OSError as error:
            raise HookError(f"{self._destination}: {error.strerror}") from error
        if self._command and os.path.exists(self._owed):
            self._run(change)

    def _render(self, change: RoleChange) -> str:
        import jinja2

        folder, name = os.path.split(os.path.abspath(self._source))
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder) if self._source else None,
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - what is written are configuration files, not HTML
            keep_trailing_newline=True,
        )
        try:
            template = (
                environment.get_template(name)
                if self._source
                else environment.from_string(self._text)
            )
            return template.render(
                event=change.event.value,
                election=change.election,
                role=change.role.value,
                previous_role=change.previous_role.value,
                term=change.term,
                reason=change.reason,
                instance=change.instance,
                leader=change.leader,
            )
        except jinja2.TemplateSyntaxError as error:
            where = self._source or "text"
            raise HookError(f"{where}, line {error.lineno}: {error.message}") from error
        except jinja2.TemplateNotFound as error:
            raise HookError(f"the template {error.name} cannot be read") from error
        except jinja2.TemplateError as error:
            raise HookError(f"{self._source or 'text'}: {error.message}") from error

    def _write(self, content: bytes) -> None:
        """Replace the file in one step, when its content or its mode changes."""
        old, old_mode = _read(self._destination)
        mode = old_mode if self._mode is None else self._mode
        if old == content and mode == old_mode:
            return
        if self._command:
            with open(self._owed, "wb"):
                pass
        folder, name = os.path.split(self._destination)
        fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                os.fchmod(fd, mode)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, self._destination)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)

    def _run(self, change: RoleChange) -> None:
        environment = {**inherited(), **variables(change)}
        done = run_command(self._command, env=environment, timeout=change.timeout)
        if done.status != 0:
            raise HookError(f"{self._command[0]}: {done.describe()}")
        os.unlink(self._owed)


def _mode(settings: Table) -> int | None:
    text = settings.text("mode", "")
    if not text:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigError(f'{settings.where}: mode = {text!r} is no file mode like "0644"')
    return mode


def _read(path: str) -> tuple[bytes | None, int]:
    """Return a file's content and mode; of one that is missing ``None`` and the default."""
    try:
        with open(path, "rb") as file:
            return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return None, _DEFAULT_MODE


def _sync_folder(folder: str) -> None:
    """Make the renaming itself durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
