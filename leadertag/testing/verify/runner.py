"""Runs the contracts in a process of their own, and puts together what it tells.

A test that hangs, or takes its process with it, has failed; the others then go on in another
process. Nothing here imports pytest.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from leadertag.errors import BackendUnavailable, ConfigError, PluginBroken
from leadertag.testing.verify.report import FAILED, KIND_ORDER, Outcome, shortened

_FIRST = 120.0
"""Seconds until something is heard at all: imports, and the backend's first answers."""
_FAREWELL = 15.0
"""Seconds for an interrupted process to take back what it made."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to verify. ``offered`` are the kinds the plugin has, ``kinds`` those to be tested."""

    name: str
    kinds: Sequence[str]
    offered: Sequence[str]
    settings: Mapping[str, Any]
    where: str
    harness: str = ""


@dataclass(slots=True)
class Findings:
    """What has been told so far."""

    tests: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: str = ""
    limit: float = _FIRST
    harness: str = ""
    left: list[str] = field(default_factory=list)
    finished: bool = False

    def ordered(self) -> list[Outcome]:
        """Return the outcomes kind by kind, in the order of the tests."""
        found = [self.outcomes[test] for test in self.tests if test in self.outcomes]
        return sorted(found, key=lambda one: KIND_ORDER.index(one.kind))

    def blame(self, what: str) -> None:
        """Note that the running test failed."""
        if not self.running:
            raise PluginBroken(f"the tests could not be run: {what}")
        self.outcomes[self.running] = Outcome(*self.tests[self.running], FAILED, what)
        self.running = ""

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one line of the process."""
        if "error" in event:
            raise _error(event)
        if "limit" in event:
            self.limit, self.harness = event["limit"], event["harness"]
        elif "tests" in event:
            self.tests = {test: tuple(words) for test, words in event["tests"].items()}
        elif "start" in event:
            self.running = event["start"]
        elif "test" in event:
            told = shortened(event["told"])
            words = self.tests[event["test"]]
            self.outcomes[event["test"]] = Outcome(*words, event["outcome"], told, event["trace"])
            self.running = ""
        elif event.get("done"):
            self.left += event["left"]
            self.finished = True


def _error(event: Mapping[str, Any]) -> Exception:
    if not event["wrong"]:
        return BackendUnavailable(event["error"])
    return ConfigError(event["error"]) if event["config"] else PluginBroken(event["error"])


def run_contracts(job: Job, watch: Callable[[Findings], None]) -> Findings:
    """Run all tests; ``watch`` is called whenever something was told.

    Raises ConfigError, PluginError or BackendUnavailable when nothing could be run at all.
    """
    findings, run = Findings(), uuid.uuid4().hex[:6]
    while not findings.finished:
        _one_process(job, run, findings, watch)
    return findings


def _one_process(job: Job, run: str, findings: Findings, watch: Callable[[Findings], None]) -> None:
    told = {
        "name": job.name, "kinds": list(job.kinds), "offered": list(job.offered),
        "settings": dict(job.settings), "where": job.where, "harness": job.harness, "run": run,
        "done": list(findings.outcomes),
    }  # fmt: skip
    with tempfile.TemporaryFile() as noise:
        process = subprocess.Popen(
            # -P: what stands in the folder where somebody happens to be is not imported.
            [sys.executable, "-P", "-B", "-m", "leadertag.testing.verify"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise,
            env=_environment(), text=True, start_new_session=True,
        )  # fmt: skip
        try:
            _listen(process, json.dumps(told, default=str), findings, watch)
            if not findings.finished:
                status = process.wait(_FAREWELL)
                findings.blame(f"its process ended ({_ended(status)}){_last_line(noise)}")
        except TimeoutError:
            findings.blame(f"it did not end within {findings.limit:.0f} s")
        finally:
            _end(process, findings.finished)


def _environment() -> dict[str, str]:
    """Return the environment without what would configure pytest."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _listen(
    process: subprocess.Popen[str], told: str, findings: Findings, watch: Callable[[Findings], None]
) -> None:
    """Hear the process out; TimeoutError when it says nothing for too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    with suppress(BrokenPipeError):  # it has ended already, which is seen below
        process.stdin.write(told)
        process.stdin.close()
    while True:
        try:
            line = lines.get(timeout=findings.limit)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            return
        findings.hear(json.loads(line))
        watch(findings)


def _read(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with suppress(ValueError):  # closed by the other side's giving up
        for line in stream:
            lines.put(line)
    lines.put("")


def _ended(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _last_line(noise: IO[bytes]) -> str:
    noise.seek(0)
    lines = noise.read().decode(errors="replace").strip().splitlines()
    return f": {shortened(lines[-1])}" if lines else ""


def _end(process: subprocess.Popen[str], finished: bool) -> None:
    """Let it take back what it made where it can; then end it with all it has started."""
    if not finished:
        process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_FAREWELL)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
