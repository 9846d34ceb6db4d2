"""What comes over leadertag's own pipes and sockets: control, guardian, workers."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.daemon import control
from leadertag.daemon.control import ControlSocket, ask
from leadertag.daemon.guardian import IDLE, Guardian
from leadertag.errors import BackendUnavailable
from leadertag.hooks.wire import Channel, decode_change, encode_change
from leadertag.hooks.workers import Lane, WorkerProcess
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Instance, Role
from tests.tools.processes import wait_until
from tests.unit.hostile.anything import bytes_like, hostile, mutated, outcome, texts, values

QUESTION = {"verb": "status"}
ANSWER = {"pid": 1, "elections": [{"name": "redis", "state": "leading"}]}


# -- the control socket --------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlSocket]:
    made = ControlSocket(str(tmp_path / "x.sock"), lambda question: {"got": question})
    yield made
    made.close()


@given(bytes_like(QUESTION))
@hostile(60)
def test_any_question_leaves_it_answering(daemon: ControlSocket, question: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(daemon.path)
        with suppress(OSError):  # it need not read what is too long
            client.sendall(question + b"\n")
            client.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            client.recv(65536)
    assert ask(daemon.path, QUESTION) == {"got": QUESTION}


@contextmanager
def pretender(path: Path, answer: bytes, *, trickle: bytes = b"") -> Iterator[str]:
    """Somebody else behind the socket: says that once, and then a little again and again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(4)
        stop = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(answer)
                    while trickle and not stop.wait(0.02):
                        client.sendall(trickle)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(path)
        finally:
            stop.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@given(bytes_like(ANSWER))
@hostile(60)
def test_any_answer_is_a_table_or_one_line(tmp_path: Path, answer: bytes) -> None:
    with pretender(tmp_path / "y.sock", answer) as path:
        found = outcome(lambda: ask(path, QUESTION))
    assert isinstance(found, (dict, BackendUnavailable))


def test_an_answer_that_trickles_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT", 0.3)
    with (
        pretender(tmp_path / "z.sock", b"{", trickle=b" ") as path,
        pytest.raises(BackendUnavailable, match="timed out"),
    ):
        ask(path, QUESTION)


def test_a_question_that_trickles_keeps_nobody_waiting(
    daemon: ControlSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "TIMEOUT", 0.3)
    stop = threading.Event()
    answers: list[Any] = []

    def answered() -> bool:
        with suppress(BackendUnavailable):  # while the other one still has its time
            answers.append(ask(daemon.path, QUESTION))
        return bool(answers)

    def trickle() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(OSError):
            client.connect(daemon.path)
            first.set()
            while not stop.wait(0.02):
                client.sendall(b" ")

    first = threading.Event()
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert first.wait(10)
        wait_until(answered, 10, "the one who asks in order gets an answer")
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("path", ["", "\0", "/nowhere", "x" * 200, "\ud800"], ids=ascii)
def test_any_path_of_a_socket_is_one_line(path: str) -> None:
    assert isinstance(outcome(lambda: ask(path, QUESTION)), BackendUnavailable)


# -- the guardian ---------------------------------------------------------------------------

HOLD = ["redis", "n1/redis", 5.0, [1, 2], False]
WORD = {"setup": "s", "prepare": 3.0, "holds": [HOLD]}


@given(bytes_like(WORD).map(lambda raw: raw.replace(b"\n", b" ")))
@hostile(150)
def test_no_message_ends_the_guardian_or_its_watch(word: bytes) -> None:
    """What cannot be read changes nothing: the deadline that it knew still holds."""
    reading, writing = os.pipe()
    try:
        guardian = Guardian(-1, reading)
        os.write(writing, json.dumps(WORD).encode() + b"\n" + word[:60_000] + b"\n")
        known = []
        for message in guardian._messages(0):
            guardian._take(message)
            known.append(guardian._holds)
    finally:
        os.close(reading)
        os.close(writing)
    assert known[0] == [("redis", "n1/redis", 5.0, [1, 2], False)]
    if len(known) == 1:
        assert guardian._holds == known[0]
    assert 0 <= guardian._patience() <= IDLE
    for election, member, strike_at, writers, gives_up in guardian._holds:
        assert isinstance(election, str)
        assert isinstance(member, str)
        assert isinstance(strike_at, (int, float))
        assert isinstance(writers, list)
        assert isinstance(gives_up, bool)


# -- workers --------------------------------------------------------------------------------


@given(st.lists(bytes_like({"do": "call"}), max_size=3), st.integers(1, 40), st.booleans())
@hostile(100)
def test_a_channel_gives_tables_or_says_that_it_is_none(
    bodies: list[bytes], step: int, framed: bool
) -> None:
    mine, theirs = socket.socketpair()
    sent = b"".join(struct.pack("!I", len(body)) + body if framed else body for body in bodies)

    def write() -> None:
        with theirs, suppress(OSError):
            for start in range(0, len(sent), 1 + len(sent) // step):
                theirs.sendall(sent[start : start + 1 + len(sent) // step])

    writer = threading.Thread(target=write)
    writer.start()
    channel = Channel(mine)
    try:
        while True:
            for message in channel.receive():
                assert isinstance(message, dict)
    except (EOFError, ValueError):
        pass
    finally:
        channel.close()
        writer.join()


@given(st.lists(mutated({"ok": True, "message": "", "rank": 3}) | mutated({"group": 77, "running":
       True}) | st.dictionaries(texts, values, max_size=2), max_size=3))  # fmt: skip
@hostile(150)
def test_any_reply_of_a_worker_is_one_or_the_worker_is_lost(messages: list[Any]) -> None:
    """It may name no group of processes that is the daemon's own, or that is no number."""
    worker = object.__new__(WorkerProcess)
    worker.lane, worker._groups, worker._began = Lane.ACTION, set(), False
    tables = [message for message in messages if isinstance(message, dict)]
    tables.append({"group": os.getpgrp(), "running": True})
    with pytest.raises(ValueError, match="worker"):
        worker._reply(tables)
    try:
        reply = worker._reply(tables[:-1])
    except ValueError:
        return
    assert reply is None or (isinstance(reply["ok"], bool) and "message" in reply)
    assert all(isinstance(group, int) for group in worker._groups)
    assert os.getpgrp() not in worker._groups


@given(texts, texts, st.lists(texts, max_size=3), st.dictionaries(texts, texts, max_size=2))
@hostile(100)
def test_a_role_change_arrives_as_it_was_sent(
    name: str, address: str, tags: list[str], meta: dict[str, str]
) -> None:
    instance = Instance(name, address, name, address, 6379, tuple(tags), meta=meta)
    change = RoleChange(
        event=HookEvent.FOLLOW, election=name, role=Role.FOLLOWER, previous_role=Role.UNKNOWN,
        term=7, reason=address, instance=instance, leader=instance, timeout=1.5,
    )  # fmt: skip
    assert decode_change(json.loads(json.dumps(encode_change(change)))) == change
