"""Workers and the process that they work for, which may die or be cut short at any time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.processes import wait_until
from tests.unit.hooks.helpers import LONG, Spies, wait_vanished

# A daemon in small: runs one event's hooks, as its arguments say, and prints the outcome.
DAEMON = """\
import json, os, sys, time
from leadertag.config.settings import HookSettings
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent
from tests.unit.hooks.helpers import change, limits

if __name__ == "__main__":
    use, event, options = sys.argv[1], HookEvent(sys.argv[2]), json.loads(sys.argv[3])
    pool = WorkerPool(2)
    timeouts = limits(1.0 if "limit=1" in sys.argv else 60.0)
    runner = HookRunner("redis", [HookSettings(use, "f", None, timeouts, options)], pool)
    pool.warm()
    if "fork" in sys.argv:  # one that keeps every descriptor, as a careless library may
        child = os.fork()
        if not child:
            time.sleep(3600)
        print(child, flush=True)
    print(runner.run(change(event)).ok)
    print([m for m in ("redis", "jinja2", "ssl") if m in sys.modules])
    pool.close()
"""


@contextmanager
def daemon(plugins: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[3]
    path = f"import sys; sys.path[:0] = [{str(plugins)!r}, {str(root)!r}]\n"
    argv = [sys.executable, "-c", path + DAEMON, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("fork", [False, True])
def test_workers_and_what_they_started_die_with_the_daemon(
    plugins: Path, spies: Spies, tmp_path: Path, fork: bool
) -> None:
    do = {"promote": f"spawn:{tmp_path}/pid"}
    options = json.dumps({"name": "a", "log": str(spies.log), "do": do})
    words = ["fork"] if fork else []
    with daemon(plugins, spies.use, "promote", options, *words) as process:
        spawned = _spawned(spies)
        assert process.stdout
        child = int(process.stdout.readline()) if fork else None
        process.kill()
        process.wait()
    try:
        wait_vanished(spies.pid("a promote begin"), *spawned)
    finally:
        if child:
            subprocess.run(["kill", "-9", str(child)], check=True)


def _spawned(spies: Spies) -> list[int]:
    """What the hook has started: its child, another one's group, and that one's child."""

    def found() -> list[str]:
        return next((words[2:] for words in spies.words() if words[1] == "spawned"), [])

    wait_until(found, LONG, "the hook's children")
    return [int(pid) for pid in found()]


def test_a_command_dies_with_the_daemon(plugins: Path, tmp_path: Path) -> None:
    script = f"sleep 3600 & echo $$ $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait"
    options = json.dumps({"command": ["sh", "-c", script]})
    with daemon(plugins, "command", "promote", options) as process:
        wait_until((tmp_path / "pids").exists, LONG, "the command's start")
        process.kill()
        process.wait()
    wait_vanished(*(int(pid) for pid in (tmp_path / "pids").read_text().split()))


def test_an_orphan_whose_hook_never_lets_go_of_the_interpreter_ends(
    plugins: Path, spies: Spies
) -> None:
    # A regular expression that backtracks for ages holds the interpreter all the time.
    stuck = "return:__import__('re').match(r'(a+)+$', 'a' * 64 + 'b')"
    options = {"name": "a", "log": str(spies.log), "do": {"promote": stuck}}
    with daemon(plugins, spies.use, "promote", json.dumps(options), "limit=1") as process:
        spies.wait("a promote begin")
        process.kill()
        process.wait()
    wait_vanished(spies.pid("a promote begin"))


def test_libraries_of_hooks_stay_out_of_the_daemon(plugins: Path, tmp_path: Path) -> None:
    options = json.dumps({"text": "{{ role }}", "destination": str(tmp_path / "out")})
    with daemon(plugins, "template", "promote", options) as process:
        assert process.stdout
        assert process.stdout.read().split("\n")[:2] == ["True", "[]"]
    assert (tmp_path / "out").read_text() == "leader"
