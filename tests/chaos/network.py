"""Network namespaces, the wires between them, and entering one.

Each node has a namespace with one wire into the switch's namespace, where a process of
ours (:mod:`tests.chaos.switch`) moves the frames: that is where a node is cut off, where
frames are lost one way only, and where they are late. Names carry the id of the process
that made them, so that what a killed run left is known as such.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.tools.processes import ServerProcess

PREFIX = "ltchaos"
NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL, _STXCSUM = 0x8946, 0x17
_libc = ctypes.CDLL(None, use_errno=True)


class NoNetwork(Exception):
    """Namespaces cannot be made here; the message says why, in one line."""


@dataclass(frozen=True)
class Rule:
    """What befalls frames on their way: milliseconds late, and how many of 1 are lost."""

    delay_ms: float = 0.0
    loss: float = 0.0


CUT = Rule(loss=1.0)


def check_possible() -> None:
    """Raise NoNetwork unless namespaces can be made and wired."""
    if os.geteuid() != 0:
        raise NoNetwork("network namespaces need root")
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            raise NoNetwork(f"there is no program {program!r} (iproute2, util-linux)")
    name = f"{PREFIX}-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "p0", "type", "veth", "peer", "name", "p1")
    except NoNetwork as error:
        raise NoNetwork(f"the kernel refuses: {error}") from error
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoNetwork(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread, and no other, be in that namespace: what it connects stays there.

    "" is where it is already.
    """
    if not namespace:
        yield
        return
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        try:
            yield
        finally:
            _set(own)
    finally:
        os.close(own)


def enter(namespace: str) -> None:
    """Move this thread to that namespace for good; "" stays where it is."""
    if namespace:
        other = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set(other)
        finally:
            os.close(other)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def remove_leftovers() -> None:
    """Remove the namespaces of runs whose process is gone."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        owner = path.name.split("-")[1]
        if not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)


class Network:
    """The namespaces of some hosts, wired to one switch; a context manager."""

    def __init__(self, hosts: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self.hosts = tuple(hosts)
        self._switch: ServerProcess | None = None
        self._control: socket.socket | None = None
        self._rules: dict[tuple[str, str], Rule] = {}
        self._mutex = threading.Lock()

    def namespace(self, host: str) -> str:
        """The namespace's name."""
        return f"{PREFIX}-{os.getpid()}-{host}"

    def address(self, host: str) -> str:
        """The host's address on its wire; the namespaces are ours, so any will do."""
        return f"10.77.0.{self.hosts.index(host) + 1}"

    def command(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command that runs another one on that host, in its own place."""
        return ["nsenter", f"--net={NAMESPACES / self.namespace(host)}", "--", *argv]

    def start(self) -> None:
        """Make everything; the switch runs when this returns."""
        try:
            for host in ("switch", *self.hosts):
                _ip("netns", "add", self.namespace(host))
                with inside(self.namespace(host)):
                    _quiet_ipv6()
                _ip("-n", self.namespace(host), "link", "set", "lo", "up")
            for host in self.hosts:
                self._wire(host)
            self._start_switch()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the switch and remove the namespaces."""
        if self._control is not None:
            self._control.close()
        if self._switch is not None:
            self._switch.kill()
        for host in ("switch", *self.hosts):
            with suppress(NoNetwork):
                _ip("netns", "del", self.namespace(host))

    def __enter__(self) -> Network:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- faults ----------------------------------------------------------------------------

    def set_rules(self, rules: dict[tuple[str, str], Rule]) -> None:
        """Change what befalls frames from one host to another: (from, to) to a rule."""
        with self._mutex:
            self._rules.update(rules)
            self._tell()

    def clear_rules(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Let frames of these pairs pass again."""
        with self._mutex:
            for pair in pairs:
                self._rules.pop(pair, None)
            self._tell()

    def pairs_of(self, host: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """All pairs from that host, and all to it."""
        others = [other for other in self.hosts if other != host]
        return [(host, other) for other in others], [(other, host) for other in others]

    def _tell(self) -> None:
        """Send all rules; they hold when the switch has answered."""
        if self._control is None:
            return
        rows = [
            [self.hosts.index(a), self.hosts.index(b), asdict(rule)]
            for (a, b), rule in self._rules.items()
        ]
        self._control.sendall(json.dumps(rows).encode() + b"\n")
        if not self._control.recv(1):
            raise NoNetwork("the switch has ended")

    # -- making it -------------------------------------------------------------------------

    def _wire(self, host: str) -> None:
        own, switch = self.namespace(host), self.namespace("switch")
        number = self.hosts.index(host) + 1
        port, mac = f"p{number}", f"02:00:00:00:00:{number:02x}"
        _ip("-n", own, "link", "add", "eth0", "address", mac, "type", "veth",
            "peer", "name", port, "netns", switch)  # fmt: skip
        _ip("-n", own, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        _ip("-n", own, "link", "set", "eth0", "up")
        _ip("-n", switch, "link", "set", port, "up")
        with inside(own):
            _checksums_in_software("eth0")
        for other in self.hosts:
            # Known for good: a lost question for an address is not the fault that is meant.
            neighbour = f"02:00:00:00:00:{self.hosts.index(other) + 1:02x}"
            if other != host:
                _ip("-n", own, "neigh", "add", self.address(other), "lladdr", neighbour,
                    "dev", "eth0", "nud", "permanent")  # fmt: skip

    def _start_switch(self) -> None:
        path = self._folder / "switch.sock"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        listening.listen(1)
        # Late frames are a fault of their own: the switch comes before what it connects.
        argv = ["nice", "-n", "-15", sys.executable, "-m", "tests.chaos.switch", str(path)]
        ports = [f"p{number + 1}" for number in range(len(self.hosts))]
        self._switch = ServerProcess(
            self.command("switch", [*argv, *ports]), self._folder / "switch.log", name="switch"
        )
        self._switch.start()
        listening.settimeout(20)
        try:
            self._control, _ = listening.accept()
        finally:
            listening.close()
        self._control.settimeout(20)


def _quiet_ipv6() -> None:
    with suppress(OSError):
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")


def _checksums_in_software(device: str) -> None:
    """A wire never computes checksums: frames that leave it by hand would carry wrong ones."""
    value = struct.pack("II", _STXCSUM, 0)
    buffer = ctypes.create_string_buffer(value)
    request = struct.pack("16sP", device.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
