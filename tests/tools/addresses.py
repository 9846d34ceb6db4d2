"""Hands out loopback addresses and ports that no other test run has.

Every test process on the machine, whatever its checkout, xdist worker or user,
takes an address by locking a file in one shared folder. The lock lives as long as
the lease or the process, so a killed run leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

# Not tempfile.gettempdir(): runs with another TMPDIR must see the same locks.
LOCK_FOLDER = Path("/tmp/leadertag-test-addresses")

# A block that hardly anything else uses: 127.90.0.1 to 127.90.7.254.
_ADDRESSES = [f"127.90.{high}.{low}" for high in range(8) for low in range(1, 255)]
_PORT_TRIES = 50


class AddressesExhausted(Exception):
    """Every address of the block is taken, or the kernel has no 127.0.0.0/8."""


class _Lock:
    """An exclusive lock on one name, held until `close` or the death of the process."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._mutex = threading.Lock()

    @classmethod
    def take(cls, name: str) -> _Lock | None:
        """The lock, or None when somebody else has it."""
        fd = _open(LOCK_FOLDER / name)
        if fd is None:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return cls(fd)

    def close(self) -> None:
        """Gives the name back; again is harmless."""
        with self._mutex:
            fd, self._fd = self._fd, None
        if fd is not None:
            fcntl.flock(fd, fcntl.LOCK_UN)  # explicit: a forked child shares the open file
            os.close(fd)


def _open(path: Path) -> int | None:
    """The lock file, made when it is missing; None when another user's is closed to us."""
    if not LOCK_FOLDER.exists():
        with suppress(FileExistsError):
            LOCK_FOLDER.mkdir()
            LOCK_FOLDER.chmod(0o1777)
    try:
        # Without O_CREAT first: the kernel refuses it for others' files in sticky folders.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        with suppress(PermissionError):
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except PermissionError:
        pass
    return None


class AddressLease:
    """One 127.x.y.z address that is ours alone: every port on it is free to use."""

    def __init__(self, address: str, lock: _Lock) -> None:
        self.address = address
        self._lock = lock
        self._given: set[int] = set()

    def free_port(self) -> int:
        """A port of this address, free for TCP and UDP and not given out before."""
        for _ in range(_PORT_TRIES):
            port = _unused_port(self.address)
            if port is not None and port not in self._given:
                self._given.add(port)
                return port
        raise AddressesExhausted(f"no free port on {self.address}")

    def close(self) -> None:
        """Gives the address back; again is harmless."""
        self._lock.close()

    def __enter__(self) -> AddressLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lease_address(ports: Sequence[int] = ()) -> AddressLease:
    """An address of one's own, on which all of `ports` are free for TCP and UDP.

    A program of the machine that listens on 0.0.0.0 occupies its port on every
    address; AddressesExhausted is raised then.
    """
    start = random.randrange(len(_ADDRESSES))  # parallel runs seldom try the same one
    for address in _ADDRESSES[start:] + _ADDRESSES[:start]:
        lock = _Lock.take(address)
        if lock is None:
            continue
        if all(_can_bind(address, port) for port in (0, *ports)):
            return AddressLease(address, lock)
        lock.close()
    raise AddressesExhausted(f"no address in 127.90.0.0/21 with free ports {list(ports)}")


@contextmanager
def lease_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port of a *shared* address, kept from other test runs while in the block."""
    for _ in range(_PORT_TRIES):
        port = _unused_port(address)
        lock = None if port is None else _Lock.take(f"{address}-{port}")
        if port is not None and lock is not None:
            try:
                yield port
            finally:
                lock.close()
            return
    raise AddressesExhausted(f"no free port on {address}")


def _unused_port(address: str) -> int | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port if _can_bind(address, port, kinds=(socket.SOCK_DGRAM,)) else None


def _can_bind(
    address: str,
    port: int,
    kinds: Sequence[socket.SocketKind] = (socket.SOCK_STREAM, socket.SOCK_DGRAM),
) -> bool:
    for kind in kinds:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:  # connections in TIME_WAIT do no harm
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
