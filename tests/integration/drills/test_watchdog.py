"""The kernel's watchdog beside real daemons and guardians: what is written to it, and when.

Tests have no real device. A pseudo-terminal stands for it, whose ioctls ``sitecustomize``
answers inside the processes under test; its other end shows every byte. Nothing here shows that
a kernel would reset the node: only that it is fed, not fed and disarmed when it has to be.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from leadertag.daemon.watchdog import timeout_for
from tests.integration.drills.drill import RATE, TURNS, boottime
from tests.tools.leadertag import COMMAND, run_program
from tests.tools.processes import ServerProcess, wait_until

LEASE = 5.0
TIMEOUT = timeout_for(LEASE)
SHIM = """
import fcntl, struct
real, told = fcntl.ioctl, [60]
def ioctl(fd, number, data=0, *rest):
    if number == 0x80285700:
        return struct.pack("=II32s", 0x100, 1, b"pseudo")
    if number == 0xC0045706:
        told[0] = struct.unpack("=i", data)[0]
    if number in (0xC0045706, 0x80045707):
        return struct.pack("=i", told[0])
    return real(fd, number, data, *rest)
fcntl.ioctl = ioctl
"""
CONFIG = """\
backend = "local"
state_dir = "{folder}/state"
watchdog = "{device}"
[backends.local]
path = "{folder}/leadertag.db"
node = "n1"
[elections.demo]
service = "demo"
lease = "{lease}s"
[elections.demo.instance]
id = "n1"
address = "127.0.0.1"
port = 1
[[elections.demo.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/bin/sh", "-c", "echo $LEADERTAG_EVENT >>{folder}/events; [ ! -e {folder}/fail ]"]
"""


@dataclass
class Bench:
    """One daemon that leads, and the other end of its device."""

    folder: Path
    device: str
    master: int
    written: list[tuple[float, bytes]] = field(default_factory=list)
    """When each piece arrived, and what."""

    def __post_init__(self) -> None:
        (self.folder / "sitecustomize.py").write_text(SHIM)
        config = self.folder / "leadertag.toml"
        config.write_text(CONFIG.format(folder=self.folder, device=self.device, lease=LEASE))
        self.argv = [*COMMAND, "--config", str(config), "--log-level", "info", "run"]
        path = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"PYTHONPATH": os.pathsep.join(path), "BENCH_UNDER_TEST": str(self.folder)}
        self.daemon = ServerProcess(self.argv, self.folder / "log", env=env)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self.master, 4096):
                self.written.append((boottime(), data))

    def bytes(self) -> bytes:
        """All that was written."""
        return b"".join(data for _, data in self.written)

    @property
    def events(self) -> list[str]:
        """The actions that have begun."""
        with suppress(FileNotFoundError):
            return (self.folder / "events").read_text().split()
        return []

    def lead(self) -> None:
        """Start the daemon; returns when it leads and its device is fed."""
        self.daemon.start()
        wait_until(lambda: "-> leading" in self.daemon.log.read_text(), 30, "it leads")
        self.wait_fed()

    def wait_fed(self) -> None:
        """Wait until it was fed several times more."""
        before = self.bytes().count(b"\0")
        wait_until(lambda: self.bytes().count(b"\0") >= before + 3, 30, "the device is fed")

    def confirmed(self) -> float:
        """When the lock was last confirmed."""
        (file,) = (self.folder / "state").glob("*.confirmed")
        return float(struct.unpack("<d36s", file.read_bytes())[0])

    def last_permission(self) -> float:
        """The last moment in which it may be fed unless another confirmation comes."""
        return self.confirmed() + RATE * LEASE - TIMEOUT

    def assert_fed_in_time(self) -> None:
        """It was fed last while that was permitted."""
        last = max(at for at, data in self.written if b"\0" in data)
        assert last <= self.last_permission() + 0.1  # the reading thread's own delay

    def guardians(self) -> list[int]:
        """The guardians of this daemon, also those that outlived it."""
        found = []
        mark = f"BENCH_UNDER_TEST={self.folder}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                guards = b"leadertag.daemon.guardian" in (entry / "cmdline").read_bytes()
                if guards and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def signal_guardians(self, number: signal.Signals) -> None:
        """Send a signal to each."""
        for pid in self.guardians():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    master, slave = os.openpty()
    tty.setraw(slave)
    made = Bench(tmp_path, os.ttyname(slave), master)
    yield made
    made.daemon.kill()
    made.signal_guardians(signal.SIGKILL)
    wait_until(lambda: not made.guardians(), 10, "no guardian is left")
    os.close(slave)  # ends the reader: nobody has the device open any more


pytestmark = pytest.mark.parametrize("turn", TURNS)


def test_it_is_disarmed_when_the_leader_gave_up(bench: Bench, turn: int) -> None:
    bench.lead()
    assert bench.bytes().startswith(b"V\0")  # tried out, then fed
    bench.daemon.stop()  # keeps the leadership for a restart: the guardian watches over it
    wait_until(lambda: bench.events == ["promote", "demote"], 20, "it is demoted")
    wait_until(lambda: not bench.guardians(), 20, "the guardian is done")
    wait_until(lambda: bench.bytes().endswith(b"V"), 10, "it is disarmed")
    assert bench.bytes().strip(b"\0V") == b""
    assert bench.bytes().count(b"V") == 2


def test_a_killed_daemons_guardian_feeds_demotes_and_disarms(bench: Bench, turn: int) -> None:
    bench.lead()
    bench.daemon.signal(signal.SIGKILL)
    wait_until(lambda: bench.bytes().endswith(b"V"), 20, "it is disarmed")
    assert bench.events == ["promote", "demote"]
    disarmed = bench.written[-1][0]
    assert disarmed < bench.confirmed() + RATE * LEASE
    bench.assert_fed_in_time()


def kill_both(bench: Bench) -> None:
    bench.daemon.pause()  # it would start another guardian
    bench.signal_guardians(signal.SIGKILL)
    bench.daemon.kill()


def stop_both(bench: Bench) -> None:
    bench.daemon.pause()
    bench.signal_guardians(signal.SIGSTOP)


@pytest.mark.parametrize("end", [kill_both, stop_both])
def test_without_daemon_and_guardian_it_is_neither_fed_nor_disarmed(
    bench: Bench, end: Callable[[Bench], None], turn: int
) -> None:
    bench.lead()
    end(bench)
    fed = len(bench.bytes())
    wait_until(lambda: boottime() > bench.last_permission() + TIMEOUT, 20, "it has expired")
    assert bench.events == ["promote"]
    assert b"V" not in bench.bytes()[fed:]
    assert len(bench.bytes()) - fed <= 1  # one that was under way
    assert bench.written[-1][0] + TIMEOUT <= bench.confirmed() + RATE * LEASE


def test_a_guardian_that_was_replaced_is_fed_on(bench: Bench, turn: int) -> None:
    bench.lead()
    first = bench.guardians()
    bench.signal_guardians(signal.SIGKILL)
    wait_until(lambda: bench.guardians() not in ([], first), 20, "another guardian")
    bench.wait_fed()
    assert bench.bytes().count(b"V") == 1
    assert bench.events == ["promote"]


def test_a_leader_that_cannot_be_demoted_is_left_to_it(bench: Bench, turn: int) -> None:
    bench.lead()
    (bench.folder / "fail").touch()
    bench.daemon.signal(signal.SIGKILL)
    wait_until(lambda: bench.events.count("demote") >= 2, 20, "demotion is tried again")
    assert bench.bytes().count(b"V") == 1
    wait_until(lambda: boottime() > bench.last_permission() + TIMEOUT, 20, "it has expired")
    bench.assert_fed_in_time()
    (bench.folder / "fail").unlink()
    wait_until(lambda: bench.bytes().endswith(b"V"), 20, "there was no kernel to reset the node")


def test_a_restart_in_time_goes_on(bench: Bench, turn: int) -> None:
    """The guardian of before lets go, and the one of now takes it up."""
    bench.lead()
    first = bench.guardians()
    bench.daemon.kill()
    bench.daemon.start()
    wait_until(lambda: bench.daemon.log.read_text().count("-> leading") == 2, 20, "it leads on")
    wait_until(lambda: bench.guardians() not in ([], first) and len(bench.guardians()) == 1, 20,
               "the guardian of before is gone")  # fmt: skip
    bench.wait_fed()
    assert bench.events == ["promote"]


def test_what_is_no_watchdog_is_refused_at_the_start(bench: Bench, turn: int) -> None:
    done = run_program([*bench.argv], {"LEADERTAG_WATCHDOG": "/dev/null"})
    assert done.exit_code == 2
    assert done.error_line.endswith("watchdog = '/dev/null' is no watchdog: "
                                    "Inappropriate ioctl for device")  # fmt: skip
    assert bench.events == []
