"""Runs commands for hooks, and ends processes together with all that they started.

A Python hook of one's own should start programs with :func:`run_command` as well: it
keeps the time limit, and what it starts dies with the worker and with the daemon.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from leadertag.config.secrets import secrets_in
from leadertag.errors import HookError

# How soon the end of a command is noticed whose children keep its output open. Where
# they do not, which is the rule, its end closes the output and is noticed at once.
_TICK = 0.02
_KEPT = 4096
_CHUNK = 64 * 1024

# What a backend reads by itself. etcd's user may be written name:password.
_NATIVE_SECRETS = frozenset(
    {"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH", "ETCDCTL_USER", "ETCDCTL_PASSWORD"}
)

_listener: Callable[[int, bool], None] | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """``status`` as in :class:`subprocess.Popen`: negative for a signal.

    ``output`` is the end of what it wrote, standard output and error together.
    """

    status: int
    output: str

    def describe(self) -> str:
        """Return ``exit status 3: last line``, in one line."""
        lines = self.output.strip().splitlines()
        return status_text(self.status) + (f": {lines[-1].strip()}" if lines else "")


def status_text(status: int) -> str:
    """Return ``exit status 3`` or ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def listen(listener: Callable[[int, bool], None] | None) -> None:
    """Let ``listener(group, running)`` know of every command's process group, in time.

    The worker passes it on, so that the daemon can end the command at the deadline.
    """
    global _listener  # noqa: PLW0603 - one worker a process, set once at its start
    _listener = listener


@contextmanager
def _announced(group: int) -> Iterator[None]:
    if _listener:
        _listener(group, True)
    try:
        yield
    finally:
        if _listener:
            _listener(group, False)


def inherited() -> dict[str, str]:
    """Return the environment for what leadertag starts for others: without its own secrets.

    A hook's program has no business with leadertag's token. One that does gets it by the
    hook's own ``environment``.
    """
    return {name: value for name, value in os.environ.items() if not _is_secret(name, value)}


def _is_secret(name: str, value: str) -> bool:
    if name in _NATIVE_SECRETS:
        return True
    # Whatever else there is was put there for the hooks.
    return name.startswith("LEADERTAG_") and bool(secrets_in(name, value))


def run_command(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: float = 0.0,
) -> Completed:
    """Run a command, without a shell, in a process group of its own.

    Without ``env`` it gets what :func:`inherited` returns. Its output is passed on to
    standard output as it comes. When ``timeout`` seconds
    (0: no limit) have passed it is killed with all that it started, and HookError is
    raised, as it is when the command cannot be started. What it leaves running behind
    itself when it ends in time is left alone.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=inherited() if env is None else env,
            cwd=cwd,
            process_group=0,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HookError(f"{argv[0]} cannot be started: {reason}") from error
    with process:
        try:
            with _announced(process.pid):
                output = _attend(process, argv[0], stdin, timeout)
        except BaseException:
            end_tree(process.pid, [process.pid])
            raise
        return Completed(process.wait(), output)


def _attend(process: subprocess.Popen[bytes], name: str, stdin: bytes, timeout: float) -> str:
    """Feed and read the process until it has ended; return the end of its output."""
    assert process.stdin is not None
    assert process.stdout is not None
    for end in (process.stdin, process.stdout):
        os.set_blocking(end.fileno(), False)
    deadline = time.monotonic() + timeout if timeout > 0 else None
    kept = b""
    reading = True
    while process.poll() is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise HookError(f"{name} took longer than {timeout:.2f} s")
        stdin = _feed(process, stdin)
        if not reading:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
            continue
        _wait(process, writing=bool(stdin))
        data = _read(process.stdout.fileno())
        reading = data != b""
        kept = (kept + _passed_on(data))[-_KEPT:]
    while data := _read(process.stdout.fileno()):
        kept = (kept + _passed_on(data))[-_KEPT:]
    return kept.decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], *, writing: bool) -> None:
    poller = select.poll()
    assert process.stdout is not None
    poller.register(process.stdout.fileno(), select.POLLIN)
    if writing and process.stdin:
        poller.register(process.stdin.fileno(), select.POLLOUT)
    poller.poll(_TICK * 1000)


def _feed(process: subprocess.Popen[bytes], rest: bytes) -> bytes:
    """Write what fits, close at the end; a command need not read its input."""
    assert process.stdin is not None
    if process.stdin.closed:
        return b""
    try:
        rest = rest[os.write(process.stdin.fileno(), rest[:_CHUNK]) :]
    except BlockingIOError:
        return rest
    except OSError:
        rest = b""
    if not rest:
        process.stdin.close()
    return rest


def _read(fd: int) -> bytes | None:
    """Return what is there, ``None`` for nothing yet, ``b""`` at the end."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


def _passed_on(data: bytes | None) -> bytes:
    if data:
        sys.stdout.write(data.decode(errors="replace"))
        sys.stdout.flush()
    return data or b""


def end_children() -> None:
    """SIGKILL everything that this process has started and that still runs."""
    for child in _children(os.getpid()):
        end_tree(child, [child])


def end_tree(pid: int, groups: Iterable[int] = ()) -> None:
    """SIGKILL a process of ours that was not reaped yet, its descendants, and groups.

    Groups alone would miss what made a group of its own (``timeout 5 …``, a job of an
    interactive shell); descendants alone would miss what was orphaned.
    """
    found = _descendants(pid)
    for group in groups:
        if group > 1:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
    for one in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """Stop each before its children are read: so none is started, or reaped, meanwhile."""
    found = [pid]
    for one in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGSTOP)
        found.extend(_children(one))
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                children.extend(int(word) for word in file.read().split())
    return children
