"""Plugins made for a test: a real distribution, with entry points, in a folder of its own."""

from __future__ import annotations

import json
import os
import textwrap
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadertag.config.settings import HookSettings
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Instance, Role
from tests.tools.processes import wait_until

WHERE = "leadertag.toml: elections.redis.hooks[0]"
# Long enough never to pass in a test that works, short enough for one that does not.
LONG = 60.0

SPY = """
    import os, signal, subprocess, sys, time
    from leadertag import HookError, hookimpl

    class Spy:
        "Writes what happens to it into a file, and does at each event what its settings say."

        def __init__(self, settings):
            self.name = settings.text("name")
            self.log = settings.text("log")
            self.actions = settings.mapping("do", {})
            self.password = settings.text("password", "")
            self.calls = 0

        def note(self, *words):
            with open(self.log, "a") as file:
                file.write(" ".join(str(word) for word in (self.name, *words)) + "\\n")

        def act(self, change):
            event = change.event.value
            self.calls += 1
            self.note(event, "begin", os.getpid(), self.calls)
            result = self.perform(self.actions.get(event, "ok"), change)
            self.note(event, "end", change.term, change.timeout)
            return result

        def perform(self, action, change):
            word, _, rest = action.partition(":")
            if word == "fail":
                raise HookError(rest)
            if word == "raise":
                raise ValueError(rest)
            if word == "leave":
                sys.exit(3)
            if word == "die":
                os._exit(3)
            if word == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "hang":
                time.sleep(3600)
            if word == "spawn":
                # One child in the group, one in a group of its own with a child in turn.
                shell = "sleep 3600 & echo $! > {0}.b; wait".format(rest)
                one = subprocess.Popen(["sleep", "3600"])
                two = subprocess.Popen(["sh", "-c", shell], process_group=0)
                while not os.path.exists(rest + ".b") or not open(rest + ".b").read().strip():
                    time.sleep(0.01)
                third = open(rest + ".b").read().strip()
                self.note("spawned", one.pid, two.pid, third)
                time.sleep(3600)
            if word == "wait":
                while not os.path.exists(rest):
                    time.sleep(0.01)
            if word == "print":
                print(rest)
            if word == "leak":
                print("the password is", self.password)
                raise HookError("cannot log in with\\n" + self.password)
            if word == "flood":
                print("first line")
                for number in range(5000):
                    print("line", number)
            if word == "return":
                return eval(rest)

        @hookimpl
        def leadertag_before_promote(self, change):
            self.act(change)

        @hookimpl
        def leadertag_promote(self, change):
            self.act(change)

        @hookimpl
        def leadertag_verify(self, change):
            self.act(change)

        @hookimpl
        def leadertag_demote(self, change):
            self.act(change)

        @hookimpl
        def leadertag_fence(self, change):
            self.act(change)

        @hookimpl
        def leadertag_follow(self, change):
            self.act(change)

        @hookimpl
        def leadertag_role_changed(self, change):
            self.act(change)

        @hookimpl
        def leadertag_leader_changed(self, change):
            self.act(change)

        @hookimpl
        def leadertag_rank(self, change):
            return self.act(change)
"""


def install(
    folder: Path,
    groups: Mapping[str, Mapping[str, str]],
    source: str = "",
    *,
    distribution: str = "",
    version: str = "1.0",
) -> str:
    """Install a distribution of one module into ``folder``; returns the module's name.

    ``groups`` maps entry-point groups to names and attributes of the module. The name is
    unique, since an imported module stays imported for the whole run.
    """
    module = f"plugin_{uuid.uuid4().hex}"
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    name = distribution or module.replace("_", "-")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, names in groups.items():
        lines += [f"[{group}]", *(f"{key} = {module}:{value}" for key, value in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return module


def change(event: HookEvent, *, timeout: float = 0.0, **fields: Any) -> RoleChange:
    """A role change of the election ``redis``."""
    settings: dict[str, Any] = {
        "election": "redis",
        "role": Role.LEADER,
        "previous_role": Role.FOLLOWER,
        "term": 7,
        "reason": "elected",
        "instance": Instance("redis-1", "n1", "redis", "10.0.0.1", 6379, meta={"a": "b"}),
        "leader": None,
    }
    return RoleChange(event=event, timeout=timeout, **{**settings, **fields})


def limits(seconds: float = LONG, **some: float) -> dict[HookEvent, float]:
    """A limit for every event."""
    return {event: some.get(event.value, seconds) for event in HookEvent}


def hook(
    use: str,
    options: Mapping[str, Any],
    *,
    events: Iterable[HookEvent] | None = None,
    timeouts: Mapping[HookEvent, float] | None = None,
    where: str = WHERE,
) -> HookSettings:
    """The settings of one hook."""
    wanted = None if events is None else frozenset(events)
    return HookSettings(use, where, wanted, timeouts or limits(), dict(options))


@dataclass
class Spies:
    """Makes hooks that write into one file what happens to them."""

    use: str
    log: Path

    def hook(self, name: str, *, password: str = "", **settings: Any) -> HookSettings:
        """A hook of that name; ``do`` says what it does at each event."""
        do = settings.pop("do", {})
        options: dict[str, Any] = {"name": name, "log": str(self.log), "do": do}
        if password:
            options["password"] = password
        return hook(self.use, options, **settings)

    def words(self) -> list[list[str]]:
        """What was written, line by line."""
        return [line.split() for line in self.log.read_text().splitlines()]

    def seen(self) -> list[str]:
        """What began and ended: ``name event begin``."""
        return [" ".join(words[:3]) for words in self.words()]

    def wait(self, line: str, times: int = 1) -> None:
        """Wait until this was seen so often."""
        wait_until(lambda: self.seen().count(line) >= times, LONG, f"{line} x {times}")

    def pid(self, line: str) -> int:
        """The worker's process id that was noted with this line."""
        return next(int(words[3]) for words in self.words() if " ".join(words[:3]) == line)


def vanished(pid: int) -> bool:
    """Whether a process is gone, or dead and only not yet reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def wait_vanished(*pids: int) -> None:
    """Wait until processes are gone."""
    assert os.getpid() not in pids
    wait_until(lambda: all(vanished(pid) for pid in pids), LONG, f"the end of {pids}")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
