"""The control socket answers whatever is asked, and cleans up after the dead."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from leadertag.daemon.control import ControlSocket, ask
from leadertag.errors import BackendUnavailable, ConfigError


def say(path: str, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").readline()


def test_it_answers_after_any_nonsense(tmp_path: Path) -> None:
    control = ControlSocket(str(tmp_path / "d" / "x.sock"), lambda question: {"got": question})
    for nonsense in (b"[1]\n", b"\n", b"{", b"\xff\n", b"null\n"):
        say(control.path, nonsense)
    assert ask(control.path, {"verb": "status"}) == {"got": {"verb": "status"}}
    control.close()
    with pytest.raises(BackendUnavailable, match="does not answer"):
        ask(control.path, {})


def test_a_path_may_be_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    dead = ControlSocket(str(folder / "dead.sock"), lambda _: {})
    dead._socket.shutdown(socket.SHUT_RDWR)
    dead._socket.close()  # as a kill does: the file stays
    control = ControlSocket(str(folder / "x.sock"), lambda _: {"ok": True})
    assert ask(control.path, {}) == {"ok": True}
    assert [path.name for path in folder.iterdir()] == ["x.sock"]
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    control.close()
    assert list(folder.iterdir()) == []


def test_an_answer_that_fails_does_not_end_it(tmp_path: Path) -> None:
    asked: list[object] = []

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"n": 1 // (len(asked) - 1)}

    control = ControlSocket(str(tmp_path / "x.sock"), answer)
    with pytest.raises(BackendUnavailable):
        ask(control.path, {})
    assert ask(control.path, {}) == {"n": 1}
    control.close()


def test_it_is_private_in_a_directory_that_can_be_entered(tmp_path: Path) -> None:
    control = ControlSocket(str(tmp_path / "new" / "x.sock"), lambda _: {})
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    control.close()


def test_sockets_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    living = ControlSocket(str(tmp_path / "living.sock"), lambda _: {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    other = ControlSocket(str(tmp_path / "other.sock"), lambda _: {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["living.sock", "other.sock"]
    living.close()
    other.close()


def test_a_path_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="control socket"):
        ControlSocket(str(tmp_path / "file" / "x.sock"), lambda _: {})
