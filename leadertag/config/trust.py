"""Whether root may believe a file: who else could write to it, or put another in its place.

Run as root, leadertag runs the commands that its configuration names, and hands its
secrets to whom it names. So every file that it goes by has to be root's alone, and so has
every directory on the way to it, as with ssh. It is looked at when the configuration is
read: at the start and at a reload. An ordinary user is only warned: others could act in
his name, but nobody gains root by that.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadertag.config.settings import ElectionSettings, Settings
from leadertag.errors import ConfigError

log = logging.getLogger(__name__)

_MOST_LINKS = 40  # as the kernel: after so many it is a circle
_READ_KEY = re.compile(r"(^|_)(token|passw\w*|secret|credentials?|key|cert|ca)_(file|path)$")
"""Keys that name what is read. Others may name what is written, in a directory of anybody's."""
_READ_VARIABLE = re.compile(r"_(FILE|CACERT|CAPATH|CERT|KEY)$")
_warned: set[str] = set()


def check(path: str, what: str = "", *, opened: int = -1) -> None:
    """Raise ConfigError, in one line, where others than root can change what root will use.

    ``what`` names the setting for people. ``opened`` is a descriptor of the file where it
    is open already: then it is that file which is judged, not what stands there now. A
    file that does not exist is no business of this function's. Not as root: warns.
    """
    found = next(_faults(path, opened), None)
    if found is None:
        return
    if os.geteuid() == 0:
        raise ConfigError(_refusal(path, what, found))
    _warn(_warning(path, what, found))


def check_settings(settings: Settings, environ: Mapping[str, str]) -> None:
    """Check every file that the configuration goes by; raises ConfigError.

    The programs of hooks and health checks, templates, and the files with tokens,
    passwords, keys and certificates; those that a backend's own variables name as well.
    """
    for where, path in (*_files(settings), *_in_environment(settings, environ)):
        check(path, where)


# -- which files -----------------------------------------------------------------------------


def _files(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, table in settings.backends.items():
        yield from _read_files(f"{settings.source}: backends.{name}", table)
    for election in settings.elections:
        yield from _of_election(election)


def _of_election(election: ElectionSettings) -> Iterator[tuple[str, str]]:
    for hook in election.hooks:
        yield from _read_files(hook.where, hook.options)
        folder = hook.options.get("cwd")
        program = _program(hook.options.get("command"), folder if isinstance(folder, str) else "")
        if program:
            yield f"{hook.where}: command", program
        source = hook.options.get("source")
        if hook.use == "template" and isinstance(source, str):
            yield f"{hook.where}: source", source
    own = election.instance.check if election.instance else None
    if own is not None and own.kind == "command" and (program := _program(own.target, "")):
        yield f"{election.where}.instance.check: command", program


def _read_files(where: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, str) and value and _READ_KEY.search(key):
            yield f"{where}: {key}", value


def _program(command: object, folder: str) -> str:
    """Return what would be executed, ``""`` where there is nothing (yet) or no command."""
    if not isinstance(command, list | tuple) or not command or not isinstance(command[0], str):
        return ""  # refused, with better words, by whoever runs it
    if "/" in command[0]:
        return os.path.join(folder, command[0])
    return shutil.which(command[0]) or ""


def _in_environment(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return the files of the used backends' own variables, which begin with their names."""
    used = {settings.lock.upper(), settings.registry.upper(), settings.query.upper()}
    for name, value in sorted(environ.items()):
        if value and name.startswith(tuple(used)) and _READ_VARIABLE.search(name):
            yield name, value


# -- judging ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fault:
    """Whoever owns or can write ``entry`` decides what stands at the path."""

    entry: str
    mode: int
    folder: bool
    owner: int | None
    """The foreign owner; ``None`` where the mode is what is wrong."""


def _faults(path: str, opened: int) -> Iterator[_Fault]:
    """Return what is wrong on the way from the root directory to the file, links followed."""
    try:
        if opened >= 0 and (fault := _judge(path, os.fstat(opened))):
            yield fault
        shared = False
        for entry, status in _way(os.path.join(os.getcwd(), path)):
            if stat.S_ISLNK(status.st_mode):
                # A link has no mode. Who owns it can replace it in a sticky directory only.
                if shared and status.st_uid not in _trusted():
                    yield _fault(entry, status, status.st_uid)
                continue
            if fault := _judge(entry, status):
                yield fault
            shared = bool(status.st_mode & stat.S_ISVTX) and _others_write(status)
    except (OSError, ValueError):
        return  # what cannot be reached is not used either: whoever reads it will tell


def _judge(entry: str, status: os.stat_result) -> _Fault | None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return None  # a device or a pipe that root names is meant
    # In a sticky directory (/tmp) an entry is its owner's alone, who is judged next.
    sticky = kind == stat.S_IFDIR and status.st_mode & stat.S_ISVTX
    if not sticky and _others_write(status):
        return _fault(entry, status, None)
    return _fault(entry, status, status.st_uid) if status.st_uid not in _trusted() else None


def _fault(entry: str, status: os.stat_result, owner: int | None) -> _Fault:
    return _Fault(entry, stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode), owner)


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _others_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _harmless(status.st_gid)


def _harmless(group: int) -> bool:
    """Whether nobody but root and this user is in the group.

    Debian's /usr/local/bin belongs to the group staff, which is empty; a user's files often
    belong to a group of his own.
    """
    if group == 0 or (os.geteuid() != 0 and group == os.getegid()):
        return True
    try:
        named = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False  # a group of some container's or server's: who knows
    named |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == group}
    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        own = "root"
    return named <= {"root", own}


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Return every directory, link and file that is met on the way to ``path``, in order."""
    todo, here, links = path.split("/")[::-1], "/", 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            yield here, os.lstat(here)
            continue
        entry = os.path.join(here, name)
        status = os.lstat(entry)
        yield entry, status
        if not stat.S_ISLNK(status.st_mode):
            here = entry
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(entry)
        if target.startswith("/"):
            here = "/"
            yield here, os.lstat(here)
        todo += target.split("/")[::-1]


# -- telling -----------------------------------------------------------------------------------


def _refusal(path: str, what: str, fault: _Fault) -> str:
    advice = "chown root" if fault.owner is not None else "chmod go-w"
    return (
        f"{_named(path, what)}: {_trouble(path, fault, 'root')}; run as root, leadertag uses only "
        f"files that root alone can change: {advice} {fault.entry}"
    )


def _warning(path: str, what: str, fault: _Fault) -> str:
    return f"{_named(path, what)}: {_trouble(path, fault, 'this user or root')}"


def _named(path: str, what: str) -> str:
    return f"{what}: {path}" if what else path


def _trouble(path: str, fault: _Fault, only: str) -> str:
    """Return what is wrong, with the entry's name where it is another than the path."""
    itself = os.path.abspath(fault.entry) == os.path.abspath(path)
    means = f" (mode {fault.mode:04o})"
    if fault.owner is not None:
        thing = "it" if itself else fault.entry
        return f"{thing} belongs to {_user(fault.owner)}{means}, not to {only}"
    if itself:
        return f"others than {only} can write to it{means}"
    if fault.folder:
        return f"others than {only} can write to its directory {fault.entry}{means}"
    return f"others than {only} can write to {fault.entry}{means}, which it links to"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _warn(message: str) -> None:
    """Warn once a process: the configuration is read more than once."""
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)
