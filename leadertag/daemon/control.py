"""The control socket: how other processes of this user ask a running daemon.

A unix socket in the state directory, mode 0600; one JSON line in, one JSON line out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from leadertag.errors import BackendUnavailable, ConfigError

log = logging.getLogger(__name__)
TIMEOUT = 2.0
"""Seconds for a question and its answer."""
LONGEST_PATH = 107
"""Bytes of a unix socket's path."""
LONGEST = 65536
"""Bytes in a question."""
LONGEST_ANSWER = 64 << 20
"""Bytes in an answer; thousands of elections fit."""
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class ControlSocket:
    """Answers questions until it is closed."""

    def __init__(self, path: str, answer: Answer) -> None:
        self.path = path
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_dead(Path(path).parent)
            mask = os.umask(0o177)
            try:
                with _short(path) as name:
                    self._socket.bind(name)
            finally:
                os.umask(mask)
        except OSError as error:
            raise ConfigError(f"control socket {path}: {error.strerror or error}") from error
        self._socket.listen(16)
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # closed
            with client:
                try:
                    question = json.loads(_read_line(client, LONGEST))
                    asked = question if isinstance(question, dict) else {}
                    client.sendall(json.dumps(self._answer(asked)).encode() + b"\n")
                except Exception as error:  # noqa: BLE001 - whatever is asked, the next one gets an answer
                    log.debug("a question was not understood: %s", error)


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Give a socket's path another name that is short enough: the kernel takes 107 bytes.

    State directories are where operators want them. Raises OSError when there is no folder.
    """
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _read_line(end: socket.socket, most: int) -> bytes:
    """Return a line of at most so many bytes; TimeoutError unless all of it comes in time.

    The time is for the whole of it: a peer that trickles must not keep others waiting.
    """
    deadline = time.monotonic() + TIMEOUT
    data = bytearray()
    while len(data) < most:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        end.settimeout(left)
        part = end.recv(min(65536, most - len(data)))
        data += part
        if not part or b"\n" in part:
            break
    end.settimeout(TIMEOUT)
    return bytes(data.partition(b"\n")[0])


def _remove_dead(folder: Path) -> None:
    """Remove the sockets of daemons that were killed: nobody listens there any more."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT)
            try:
                with _short(str(path)) as name:
                    probe.connect(name)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # not ours to judge


def ask(path: str, question: dict[str, Any]) -> dict[str, Any]:
    """Ask the daemon behind that socket; BackendUnavailable when it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT)
            with _short(path) as name:
                client.connect(name)
            client.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(_read_line(client, LONGEST_ANSWER))
    except (OSError, ValueError, RecursionError) as error:
        raise BackendUnavailable(f"the daemon behind {path} does not answer: {error}") from error
    if not isinstance(answer, dict):
        raise BackendUnavailable(f"the daemon behind {path} gave no answer")
    return answer
