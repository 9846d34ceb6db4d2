"""The kernel's watchdog: when it is fed, and a device that could not do its work.

There is no watchdog where tests run. A pseudo-terminal stands for the device, so that what is
written to it can be read; its ioctls are answered as the kernel would.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.config.settings import ElectionSettings, Settings
from leadertag.daemon import watchdog
from leadertag.daemon.guardian import Guardian, _decode
from leadertag.daemon.watchdog import (
    EARLY,
    FEEDS,
    Device,
    Feeder,
    Plan,
    lease_for,
    may_feed,
    next_feed,
    plan,
    timeout_for,
    try_out,
)
from leadertag.election.policy import CONFIRMS_PER_LEASE, RATE
from leadertag.errors import ConfigError

T = 2


def settings(**more: object) -> Settings:
    election = ElectionSettings("redis", "redis", "leadertag.toml: elections.redis", lease=4.0)
    values = {"watchdog": "/dev/watchdog", "elections": (election,), **more}
    return Settings("local", "local", "local", state_dir="/state", **values)  # type: ignore[arg-type]


# -- when it is fed -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "timeout"), [(1.5, 0), (1.6, 1), (3.0, 1), (3.1, 2), (5.0, 3), (30.0, 19), (60.0, 39)]
)
def test_the_time_out_leaves_room_for_two_confirmations(lease: float, timeout: int) -> None:
    assert timeout_for(lease) == timeout
    assert RATE * lease - timeout >= 2 * lease / CONFIRMS_PER_LEASE - 1e-9 or not timeout


@pytest.mark.parametrize("timeout", [1, 2, 7, 13, 60])
def test_the_shortest_lease_for_a_time_out(timeout: int) -> None:
    assert timeout_for(lease_for(timeout)) == timeout
    assert timeout_for(lease_for(timeout) - 0.11) < timeout


def test_it_is_fed_often_and_last_so_that_it_expires_at_the_deadline() -> None:
    now, fed = 100.0, [100.0]
    while (due := next_feed(now, 104.0, T)) is not None:
        now = due
        assert may_feed(now, 104.0, T)
        fed.append(now)
    assert fed[-1] + T == pytest.approx(104.0 - EARLY)
    assert all(later - earlier <= T / FEEDS for earlier, later in pairwise(fed))


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), max_size=30), st.integers(1, 5))
def test_however_late_it_is_looked_at_it_never_expires_after_the_deadline(
    steps: list[tuple[float, float]], timeout: int
) -> None:
    """Each step: how long nothing was looked at, and how old the next confirmation is by then."""
    now, ends_at, device = 1000.0, 1000.0 + 4.0 + timeout, Recorded()
    feeder = Feeder(Plan("w", timeout, os.devnull), make=lambda _: device, clock=lambda: now)
    device.fed_at = now
    for pause, age in steps:
        feeder._ends = {"redis": ends_at}
        before = device.fed
        device.now = now
        feeder.step()
        if device.fed > before:
            assert now + timeout <= ends_at
        now += pause
        ends_at = max(ends_at, now - age + 4.0)
    feeder.close()


@dataclass
class Recorded(Device):
    """A device that only counts."""

    fed: int = 0
    fed_at: float = 0.0
    now: float = 0.0
    ended: list[bool] = field(default_factory=list)

    def keeps_running(self) -> bool:
        return True

    def set_timeout(self, seconds: int) -> int:
        return seconds

    def feed(self) -> None:
        self.fed += 1

    def close(self, *, disarm: bool) -> None:
        self.ended.append(disarm)


# -- the device ---------------------------------------------------------------------------


@dataclass
class Pseudo:
    """A pseudo-terminal whose ioctls are a watchdog's."""

    path: str
    master: int
    options: int = watchdog.MAGICCLOSE
    shortest: int = 1
    timeout: int = 60
    now: float = 100.0

    def open(self, path: str) -> Device:
        return Device(path, self.ioctl)

    def ioctl(self, _: int, number: int, data: bytes) -> bytes:
        if number == watchdog.GETSUPPORT:
            return struct.pack("=II32s", self.options, 1, b"pseudo")
        if number == watchdog.SETTIMEOUT:
            (wanted,) = struct.unpack("=i", data)
            self.timeout = max(wanted, self.shortest)
        else:
            assert number == watchdog.GETTIMEOUT
        return struct.pack("=i", self.timeout)

    def written(self) -> bytes:
        """All that was written since it was last asked."""
        os.set_blocking(self.master, False)
        try:
            return os.read(self.master, 4096)
        except BlockingIOError:
            return b""


@pytest.fixture
def pseudo() -> Iterator[Pseudo]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield Pseudo(os.ttyname(slave), master)
    os.close(master)
    os.close(slave)


@pytest.fixture
def wanted(pseudo: Pseudo, tmp_path: Path) -> Plan:
    return Plan(pseudo.path, T, str(tmp_path / "watchdog.lock"))


def refusal(wanted: Plan, make: Callable[[str], Device] = Device) -> str:
    with pytest.raises(ConfigError) as caught:
        try_out(wanted, make)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_trying_out_leaves_it_disarmed(pseudo: Pseudo, wanted: Plan) -> None:
    try_out(wanted, pseudo.open)
    assert pseudo.timeout == T
    assert pseudo.written() == b"V"


def test_a_time_out_that_cannot_be_made_short(pseudo: Pseudo, wanted: Plan) -> None:
    pseudo.shortest = 60
    assert refusal(wanted, pseudo.open) == (
        f"watchdog = {pseudo.path!r}: its time-out is 60s and cannot be made 2s, which the lease "
        "needs: a lease of 92.4s or longer would fit"
    )
    assert pseudo.written() == b"V"


def test_a_device_that_stops_with_its_process(pseudo: Pseudo, wanted: Plan) -> None:
    pseudo.options = 0
    assert "no magic close" in refusal(wanted, pseudo.open)


def test_a_device_that_cannot_be_disarmed(
    pseudo: Pseudo, wanted: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_cannot_be_disarmed", lambda _: True)
    assert "nowayout" in refusal(wanted, pseudo.open)
    assert pseudo.written() == b""


def test_what_is_no_watchdog_is_not_written_to(pseudo: Pseudo, wanted: Plan) -> None:
    assert refusal(wanted).startswith(f"watchdog = {pseudo.path!r} is no watchdog: ")
    assert pseudo.written() == b""


def test_what_is_no_device_is_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    assert (
        refusal(Plan(str(file), T, ""))
        == f"watchdog = {str(file)!r} cannot be opened: is no device"
    )
    assert file.read_text() == "precious"
    missing = refusal(Plan("/dev/nowhere", T, ""))
    assert missing == "watchdog = '/dev/nowhere' cannot be opened: No such file or directory"


def busy(_: str) -> Device:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def test_a_device_that_another_program_has(wanted: Plan) -> None:
    assert "another program has it open" in refusal(wanted, busy)


def test_a_device_that_the_guardian_of_before_has(wanted: Plan) -> None:
    with open(wanted.lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try_out(wanted, busy)


# -- what is planned ------------------------------------------------------------------------


def test_the_shortest_lease_counts() -> None:
    long = ElectionSettings("b", "b", "there", lease=30.0)
    both = settings(elections=(long, *settings().elections))
    assert plan(both) == Plan("/dev/watchdog", 2, "/state/watchdog.lock")
    assert plan(settings(watchdog="")) is None


def test_a_lease_that_no_time_out_fits() -> None:
    short = ElectionSettings("b", "b", "leadertag.toml: elections.b", lease=1.2)
    with pytest.raises(ConfigError) as caught:
        plan(settings(elections=(*settings().elections, short)))
    assert str(caught.value) == (
        "leadertag.toml: elections.b: lease = 1.2s is too short for watchdog, whose shortest "
        "time-out is 1s: a lease of 1.6s or longer would fit"
    )


# -- the feeder -----------------------------------------------------------------------------


@pytest.fixture
def feeder(pseudo: Pseudo, wanted: Plan, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feeder]:
    """A feeder that the test steps itself."""
    monkeypatch.setattr(Feeder, "_run", lambda _: None)
    made = Feeder(wanted, make=pseudo.open, clock=lambda: pseudo.now)
    yield made
    made.close()


def test_it_is_open_while_something_is_led(feeder: Feeder, pseudo: Pseudo) -> None:
    assert feeder.step() is None
    assert feeder._device is None
    feeder.led({"redis": 104.0})
    assert feeder.step() == pytest.approx(T / FEEDS)
    pseudo.now = 100.0 + T / FEEDS
    feeder.step()
    assert pseudo.written() == b"\0"
    feeder.led({})
    assert feeder.step() is None
    assert pseudo.written() == b"V"
    assert feeder._device is None


def test_the_earliest_deadline_counts_until_it_is_lifted(feeder: Feeder, pseudo: Pseudo) -> None:
    feeder.led({"a": 102.0, "b": 110.0})
    feeder.step()
    pseudo.now = 101.0
    assert feeder.step() is None
    assert pseudo.written() == b""
    feeder.lift("a")
    feeder.step()
    assert pseudo.written() == b"\0"
    feeder.lift("b")
    feeder.step()
    assert pseudo.written() == b"V"


def test_an_end_with_something_led_does_not_disarm(feeder: Feeder, pseudo: Pseudo) -> None:
    feeder.led({"redis": 104.0})
    feeder.step()
    feeder.close()
    assert pseudo.written() == b""
    assert feeder._device is None


def test_a_device_that_is_taken_is_tried_again_and_told_of_once(
    wanted: Plan, pseudo: Pseudo, capsys: pytest.CaptureFixture[str]
) -> None:
    feeder = Feeder(wanted, make=busy)
    feeder._ends = {"redis": feeder.clock() + 60}
    assert feeder.step() == feeder.step() == watchdog.OPEN_AGAIN
    line = f"guardian: watchdog {pseudo.path}: Device or resource busy; this leader is without it\n"
    assert capsys.readouterr().err == line
    feeder.make = pseudo.open
    assert feeder.step() == pytest.approx(T / FEEDS, abs=0.2)
    assert feeder._device is not None
    feeder.close()


def test_two_guardians_take_turns(wanted: Plan, pseudo: Pseudo) -> None:
    old, new = (Feeder(wanted, make=pseudo.open) for _ in range(2))
    for one in (old, new):
        one._ends = {"redis": one.clock() + 60}
    old.step()
    assert new.step() == watchdog.OPEN_AGAIN
    assert new._device is None
    old.lift("redis")
    old.close()
    new.step()
    assert new._device is not None
    new.close()


# -- the guardian ---------------------------------------------------------------------------


def test_the_guardian_passes_on_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    class Told:
        def __init__(self, wanted: Plan) -> None:
            told.append(wanted)

        def led(self, ends: object) -> None:
            told.append(ends)

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setattr(watchdog, "Feeder", Told)
    reading, writing = os.pipe()
    try:
        asked = '"watchdog": {"path": "/dev/watchdog", "timeout": 2, "lock": "/l"}'
        os.write(writing, b'{"setup": "s", %s, "prepare": 0, "holds": [], "ends": {}}\n'
                 b'{"prepare": 1e9, "holds": [["r", "n/r", 1e9, [1], false]], "ends": {"r": 1e9}}\n'
                 b'{"bye": true}\n' % asked.encode())  # fmt: skip
        assert Guardian(-1, reading).run() == 0
    finally:
        os.close(reading)
        os.close(writing)
    assert told == [Plan("/dev/watchdog", 2, "/l"), {}, {"r": 1e9}, "closed"]


@pytest.mark.parametrize(
    "line",
    [b'{"watchdog": []}', b'{"watchdog": {"path": "/x"}}', b'{"ends": {"r": "soon"}}',
     b'{"ends": 5}', b'{"watchdog": {"path": "/x", "timeout": true, "lock": "/l"}}'],
)  # fmt: skip
def test_what_cannot_be_a_watchdogs_is_left_out(line: bytes) -> None:
    assert _decode(line) is None
