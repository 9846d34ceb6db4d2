"""leadertag as its users run it: the command line in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools.processes import ServerProcess, wait_until

_OWN_VARIABLES = ("LEADERTAG_", "CONSUL_")
RUN_TIMEOUT = 60.0  # seconds; a command that takes longer hangs
COMMAND = (sys.executable, "-m", "leadertag")


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams."""
        return self.stdout + self.stderr

    @property
    def error_line(self) -> str:
        """The one line on standard error; AssertionError when there is not exactly one."""
        lines = self.stderr.strip().splitlines()
        assert len(lines) == 1, f"not one line: {self}"
        return lines[0]

    @property
    def json(self) -> Any:
        """Standard output, parsed."""
        return json.loads(self.stdout)


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without variables that would configure leadertag, and with `env`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_VARIABLES)}
    return {**kept, **(env or {})}


def run_program(
    argv: list[str], env: Mapping[str, str] | None = None, timeout: float = RUN_TIMEOUT
) -> Finished:
    """Run any program with a clean environment to its end."""
    done = subprocess.run(
        argv,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def leadertag(*words: str, env: Mapping[str, str] | None = None) -> Finished:
    """``leadertag WORDS``."""
    return run_program([*COMMAND, *words], env)


def predecessor_command(*words: str, env: Mapping[str, str] | None = None) -> Finished:
    """``consul-master-election-tagger WORDS``: the script that installing leadertag makes."""
    script = Path(sys.executable).parent / "consul-master-election-tagger"
    return run_program([str(script), *words], env)


class Daemon:
    """``leadertag run`` with a configuration file; its log in a file beside it."""

    def __init__(self, config: Path, *, name: str, env: Mapping[str, str] | None = None) -> None:
        self.config = config
        # ServerProcess adds to the environment of the tests; what is not wanted is unset.
        unwanted = [key for key in os.environ if key.startswith(_OWN_VARIABLES)]
        unset = [word for key in unwanted if key not in (env or {}) for word in ("-u", key)]
        argv = ["env", *unset, *COMMAND, "--config", str(config), "-v", "run"]
        # Its guardians inherit the mark, by which they are found when it is gone.
        self._mark = f"DAEMON_UNDER_TEST={uuid.uuid4()}"
        marked = {**(env or {}), **dict([self._mark.split("=")])}
        self.process = ServerProcess(argv, config.with_suffix(".log"), name=name, env=marked)

    def start(self) -> None:
        """Start it; returns at once."""
        self.process.start()

    def kill(self) -> None:
        """SIGKILL to the daemon and its hook workers. The guardian is left to do its work."""
        self.process.kill()

    def kill_all(self) -> None:
        """As if the host had died: nothing is given up in order, and nobody is left to do it."""
        if self.process.running:
            self.process.pause()  # it would start another guardian
        for pid in self._guardians():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        wait_until(lambda: not self._guardians(), 10, "the guardians are gone")

    def _guardians(self) -> list[int]:
        """The guardians of this daemon and of its earlier processes."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                guards = b"leadertag.daemon.guardian" in (folder / "cmdline").read_bytes()
                if guards and self._mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def terminate(self) -> None:
        """SIGTERM alone; returns at once."""
        self.process.signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """SIGTERM, and its exit status."""
        self.process.stop(timeout=20)
        return self.process.exit_status

    def reload(self) -> None:
        """SIGHUP, and wait until the log tells what became of it."""
        before = self._reloads()
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: self._reloads() > before, 15, "the daemon tells of a reload")

    def _reloads(self) -> int:
        return self.log().count("reload: ") + self.log().count("was read anew")

    def log(self) -> str:
        """All that it has written."""
        return self.process.log.read_text() if self.process.log.exists() else ""


# -- configuration files ---------------------------------------------------------------


def to_toml(settings: Mapping[str, Any]) -> str:
    """TOML of nested mappings, lists, strings, numbers and booleans."""
    return "\n".join(_table(settings, "")) + "\n"


def _table(table: Mapping[str, Any], name: str) -> list[str]:
    lines = [f"{key} = {_value(v)}" for key, v in table.items() if not _is_section(v)]
    for key, value in table.items():
        full = f"{name}.{json.dumps(key)}" if name else json.dumps(key)
        if isinstance(value, Mapping):
            lines += [f"[{full}]", *_table(value, full)]
        elif _is_section(value):
            for item in value:
                lines += [f"[[{full}]]", *_table(item, full)]
    return lines


def _is_section(value: Any) -> bool:
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, Mapping) or rows


def _value(value: Any) -> str:
    return json.dumps(value)
