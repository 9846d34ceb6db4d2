"""The redis hook without a real server: its settings, and answers that are hard to get."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.settings import HookSettings
from leadertag.config.table import Table
from leadertag.errors import ConfigError, HookError, PluginBroken
from leadertag.hooks.redis import RedisHook
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent as Event
from leadertag.hookspecs import Probe
from leadertag.model import Health
from tests.unit.hooks.helpers import LONG, change, limits

pytest.importorskip("redis")

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "url is missing"),
        ({"url": "http://h"}, "must begin with redis://"),
        ({"url": f"redis://:{PASSWORD}@h:port"}, "url has a port that is no number"),
        ({"url": "unix://"}, "must name the socket"),
        ({"url": "redis://h", "password_file": "/nowhere/secret"}, "cannot be read"),
        ({"url": "redis://h", "interval": "0s"}, "longer than 0s"),
        ({"url": "redis://h", "priority": 2}, "priority = 2"),
    ],
)
def test_wrong_settings(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        RedisHook(Table(options, "f: hooks[0]"))
    assert PASSWORD not in str(caught.value)


def test_a_password_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    hook = RedisHook(Table({"url": "redis://h", "password_file": str(secret)}, "f"))
    secret.unlink()
    with pytest.raises(HookError, match=r"password_file .*: No such file"):
        hook.leadertag_promote(change(Event.PROMOTE))


def test_without_redis_py_the_hook_is_refused_at_the_start(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "redis" else found(name)
    )
    settings = HookSettings("redis", "f", None, limits(), {"url": "redis://h"})
    with pytest.raises(PluginBroken, match=r"pip install 'leadertag\[redis\]'"):
        HookRunner("redis", [settings], pool)


def test_loading_is_critical(redis_answers: Callable[[bytes], Probe]) -> None:
    probe = redis_answers(b"-LOADING Redis is loading the dataset in memory\r\n")
    assert probe.poll(LONG) is Health.CRITICAL


def test_another_protocol_is_critical(redis_answers: Callable[[bytes], Probe]) -> None:
    assert redis_answers(b"HTTP/1.1 400 Bad Request\r\n").poll(LONG) is Health.CRITICAL


@pytest.fixture
def redis_answers() -> Iterator[Callable[[bytes], Probe]]:
    """A server that gives one answer to everything, and a probe of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[Probe] = []

    def serve(answer: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(4096):
                connection.sendall(answer)

    def make(answer: bytes) -> Probe:
        threading.Thread(target=serve, args=[answer], daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        hook = RedisHook(Table({"url": url}, "f"))
        probe = hook.leadertag_probe("redis", change(Event.PROMOTE).instance)
        opened.append(probe)
        return probe

    yield make
    for probe in opened:
        probe.close()
    listener.close()
