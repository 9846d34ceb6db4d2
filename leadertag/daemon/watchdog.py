"""The kernel's watchdog: resets the node when nobody is left who could demote its leader.

With ``watchdog = "/dev/watchdog"`` the device is open while this node leads. A service that
nobody demotes, because daemon and guardian were killed at once, because both hang, because
neither ``demote`` nor ``fence`` succeeds, or because the kernel itself is stuck, is then
ended with its node, before the lease could be another's.

The guardian feeds it, not the daemon: it alone knows at any time that the leader is either
confirmed (the daemon says until when) or demoted (it has seen to that itself, or the daemon
has said so), also while the daemon is stopped, hangs or is started again. A feeding needs a
permission, and that is a deadline: 0.9 x lease after the last confirmation. The device is
never fed so late that it would expire after the deadline, nor is that ever made later but by
a confirmation; whatever hangs in guardian or daemon, it expires.

From a confirmation on, times are these (``T``: the device's time-out)::

    confirmed ...................... 0.9 x lease - T .......... 0.9 x lease ...... lease
       | fed many times in each T           | fed no more           | it expires     | a successor
                                 | the leader is demoted          ->| it is disarmed

The kernel starts the time-out anew when the process that has the device open dies (as it
should, it tells nobody else). So ``T`` leaves room for two confirmations: a node of which
all is killed at once is reset T after that, still before 0.9 x lease. Only of one that is
killed while it demotes without contact that is not true: up to T later.

Time-outs are whole seconds. ``V`` before the end disarms ("magic close", which a device has
to have: else the end of its process would disarm it). One process has the device at a time:
a guardian that watches over what an ended daemon has left, and the one of the daemon after it,
take turns, with a file in the state directory by which they know one another.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leadertag.errors import ConfigError

if TYPE_CHECKING:
    from leadertag.config.settings import Settings

# linux/watchdog.h, encoded as on x86 and ARM.
GETSUPPORT, SETTIMEOUT, GETTIMEOUT = 0x80285700, 0xC0045706, 0x80045707
MAGICCLOSE = 0x0100
"""In the options of ``struct watchdog_info``: it is disarmed by ``V`` and by nothing else."""
_INFO = struct.Struct("=II32s")
_SECONDS = struct.Struct("=i")
FEEDS = 8
"""Feedings in one time-out."""
EARLY = 0.02
"""Seconds before the last moment in which it may be fed when it is fed last."""
OPEN_AGAIN = 0.1
"""Seconds between two tries to open a device that another one still has."""
Ioctl = Callable[[int, int, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which device, its time-out in seconds, and the file by which guardians take turns."""

    path: str
    timeout: int
    lock: str


def plan(settings: Settings) -> Plan | None:
    """Return what the configuration asks for; ConfigError where no time-out would fit."""
    if not settings.watchdog or not settings.elections:
        return None
    shortest = min(settings.elections, key=lambda election: election.lease)
    timeout = timeout_for(shortest.lease)
    if timeout < 1:
        raise ConfigError(
            f"{shortest.where}: lease = {shortest.lease:.3g}s is too short for watchdog, whose "
            f"shortest time-out is 1s: a lease of {lease_for(1):.1f}s or longer would fit"
        )
    return Plan(settings.watchdog, timeout, str(Path(settings.state_dir) / "watchdog.lock"))


def timeout_for(lease: float) -> int:
    """Return the longest time-out, in whole seconds, that fits a lease; 0 for none."""
    return int(_part() * lease + 1e-9)


def lease_for(timeout: int) -> float:
    """Return the shortest lease, in seconds, that a time-out fits, rounded up to tenths."""
    return -int(-10 * timeout / _part() // 1) / 10


def _part() -> float:
    """Return the part of a lease that is left beside two confirmations."""
    from leadertag.election.policy import CONFIRMS_PER_LEASE, RATE

    return RATE - 2 / CONFIRMS_PER_LEASE


def next_feed(fed_at: float, ends_at: float, timeout: float) -> float | None:
    """Return when to feed it next; ``None``: not any more, unless ``ends_at`` moves."""
    last = ends_at - timeout - EARLY
    return min(fed_at + timeout / FEEDS, last) if fed_at < last else None


def may_feed(now: float, ends_at: float, timeout: float) -> bool:
    """Whether it would still expire in time if it were fed now."""
    return now + timeout <= ends_at


class Device:
    """An open watchdog; opening starts it. Raises OSError."""

    def __init__(self, path: str, ioctl: Ioctl = fcntl.ioctl) -> None:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            raise OSError(errno.ENODEV, "is no device")
        self._ioctl = ioctl
        self._fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)

    def keeps_running(self) -> bool:
        """Whether the end of the process leaves it running, as it must; OSError for no watchdog."""
        answer = self._ioctl(self._fd, GETSUPPORT, bytes(_INFO.size))
        return bool(_INFO.unpack(answer)[0] & MAGICCLOSE)

    def set_timeout(self, seconds: int) -> int:
        """Set its time-out, which feeds it too; return the one that it has now."""
        with suppress(OSError):  # some have one for good: what counts is which
            self._ioctl(self._fd, SETTIMEOUT, _SECONDS.pack(seconds))
        answer = self._ioctl(self._fd, GETTIMEOUT, bytes(_SECONDS.size))
        return int(_SECONDS.unpack(answer)[0])

    def feed(self) -> None:
        """Let it wait for the whole time-out again."""
        os.write(self._fd, b"\0")

    def close(self, *, disarm: bool) -> None:
        """Give it back; unless disarmed it goes on, and resets the node."""
        try:
            if disarm:
                os.write(self._fd, b"V")
        finally:
            os.close(self._fd)


def try_out(wanted: Plan, make: Callable[[str], Device] = Device) -> None:
    """Open, set and disarm it once; ConfigError, in one line, when it could not do its work.

    A device that a guardian of this host has open was tried out when that one was started.
    """
    where = f"watchdog = {wanted.path!r}"
    if _cannot_be_disarmed(wanted.path):
        raise ConfigError(
            f"{where} can never be disarmed (nowayout): the node would be reset whenever it "
            "stops leading; load its driver with nowayout=0"
        )
    try:
        device = make(wanted.path)
    except OSError as error:
        busy = error.errno == errno.EBUSY
        if busy and _is_locked(wanted.lock):
            return
        hint = ": another program has it open (systemd, by RuntimeWatchdogSec?)" if busy else ""
        raise ConfigError(f"{where} cannot be opened: {error.strerror}{hint}") from error
    ours = False
    try:
        ours = device.keeps_running()
        found = device.set_timeout(wanted.timeout) if ours else 0
    except OSError as error:
        raise ConfigError(f"{where} is no watchdog: {error.strerror}") from error
    finally:
        device.close(disarm=ours)
    if not ours:
        raise ConfigError(f"{where} is of no use: it stops with its process (no magic close)")
    if not 0 < found <= wanted.timeout:
        raise ConfigError(
            f"{where}: its time-out is {found}s and cannot be made {wanted.timeout}s, which the "
            f"lease needs: a lease of {lease_for(found):.1f}s or longer would fit"
        )


def _cannot_be_disarmed(path: str) -> bool:
    name = "watchdog0" if path == "/dev/watchdog" else Path(path).name
    with suppress(OSError):
        return Path("/sys/class/watchdog", name, "nowayout").read_text().strip() == "1"
    return False


def _is_locked(path: str) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Feeder:
    """The guardian's thread that has the device. Any other thread tells it what is led."""

    plan: Plan
    make: Callable[[str], Device] = Device
    clock: Callable[[], float] = _boottime
    _ends: dict[str, float] = field(default_factory=dict)
    _device: Device | None = None
    _lock: int = -1
    _fed_at: float = 0.0
    _trouble: str = ""
    _over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def led(self, ends: Mapping[str, float]) -> None:
        """Tell what is led, by election, each until when at most; replaces what was told."""
        with self._changed:
            self._ends = dict(ends)
            self._changed.notify()
        if ends and self._thread is None:
            # Whatever ends the guardian ends it too: the device must not outlive that fed.
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()

    def lift(self, election: str) -> None:
        """Tell that an election's leader is demoted or fenced."""
        with self._changed:
            if self._ends.pop(election, None) is not None:
                self._changed.notify()

    def close(self) -> None:
        """Give the device back, disarmed unless something is led still."""
        with self._changed:
            self._over = True
            self._changed.notify()
            self._give_back(disarm=not self._ends)

    def _run(self) -> None:
        with self._changed:
            while not self._over:
                self._changed.wait(self.step())

    def step(self) -> float | None:
        """Do what is due; return the seconds until there is more, ``None``: until told so."""
        ends_at = min(self._ends.values(), default=None)
        if ends_at is None:
            self._give_back(disarm=True)
            return None
        try:
            if self._device is None and not self._open():
                return OPEN_AGAIN
            return self._feed(ends_at)
        except OSError as error:
            self._tell(error.strerror or str(error))
            self._give_back(disarm=False)
            return OPEN_AGAIN

    def _feed(self, ends_at: float) -> float | None:
        assert self._device is not None
        now, timeout = self.clock(), self.plan.timeout
        due = next_feed(self._fed_at, ends_at, timeout)
        if due is None or not may_feed(now, ends_at, timeout):
            return None
        if due <= now:
            self._device.feed()
            self._fed_at = now
            due = next_feed(now, ends_at, timeout)
        return None if due is None else max(0.0, due - now)

    def _open(self) -> bool:
        """Open the device, which starts it; tells once why that is not possible yet."""
        self._lock = os.open(self.plan.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._give_back(disarm=False)  # a guardian of before has it, and feeds it
            return False
        self._fed_at = self.clock()
        self._device = self.make(self.plan.path)
        found = self._device.set_timeout(self.plan.timeout)
        if found > self.plan.timeout:
            self._give_back(disarm=True)
            self._tell(f"its time-out is {found}s, not {self.plan.timeout}s")
            return False
        self._trouble = ""
        return True

    def _give_back(self, *, disarm: bool) -> None:
        device, self._device = self._device, None
        lock, self._lock = self._lock, -1
        if device is not None:
            with suppress(OSError):
                device.close(disarm=disarm)
        if lock >= 0:
            os.close(lock)

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            line = f"guardian: watchdog {self.plan.path}: {trouble}; this leader is without it"
            print(line, file=sys.stderr, flush=True)
        self._trouble = trouble
