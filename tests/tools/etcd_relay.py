"""An etcd cluster whose members reach each other, and are reached, through relays alone.

A relay that is cut holds what it was given and says nothing, as a network does that loses
every packet: connections stay open, and what is on its way arrives when the cut is over.
Connections of members to each other are told apart by the process that made them, so that
one member can be cut off in both directions.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from tests.tools.addresses import lease_address
from tests.tools.etcd import CLIENT_PORT, PEER_PORT, EtcdCluster

_CHUNK = 65536
Ends = frozenset[str]
Place = tuple[str, int]


class Cuts:
    """Which ends of the network nothing passes at present. Any thread may call it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cut: list[Ends] = []
        self._over = False

    @contextmanager
    def cut(self, ends: Ends) -> Iterator[None]:
        """Let nothing pass these ends while the block runs."""
        with self._changed:
            self._cut.append(ends)
        try:
            yield
        finally:
            with self._changed:
                self._cut.remove(ends)
                self._changed.notify_all()

    def pass_through(self, ends: Ends) -> None:
        """Return once something may pass between these ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not any(ends & cut for cut in self._cut))

    def end(self) -> None:
        """Let everything pass from now on: nobody may be left waiting."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Relay:
    """Passes bytes both ways between whoever connects and one port of one member."""

    def __init__(self, target: Place, cuts: Cuts, ends: Callable[[Place, Place], Ends]) -> None:
        """`ends` tells what a connection runs between, from the addresses of its two sockets."""
        self._target, self._cuts, self._ends = target, cuts, ends
        self._lease = lease_address((target[1],))
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((self._lease.address, target[1]), backlog=64)
        self.address = f"http://{self._lease.address}:{target[1]}"
        self._thread = threading.Thread(target=self._serve, name="etcd relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it and every connection through it."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._lease.close()

    def _serve(self) -> None:
        while True:
            try:
                near, source = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near, source), daemon=True).start()

    def _connect(self, near: socket.socket, source: Place) -> None:
        ends = self._ends(source, (self._lease.address, self._target[1]))
        self._cuts.pass_through(ends)
        try:
            far = socket.create_connection(self._target, timeout=10)
        except OSError:  # the member is down: so its port says
            near.close()
            return
        far.settimeout(None)
        with self._mutex:
            self._open |= {near, far}
        back = threading.Thread(target=self._pump, args=(far, near, ends), daemon=True)
        back.start()
        self._pump(near, far, ends)
        back.join()
        with self._mutex:
            self._open -= {near, far}
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, ends: Ends) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._cuts.pass_through(ends)
                sink.sendall(data)
        self._cuts.pass_through(ends)  # nor does the end of a connection pass a cut
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class RelayedCluster(EtcdCluster):
    """Members behind relays: `cut_off` is what the others do without."""

    # Without it, the default of 3.4, a member that comes back has etcd elect for seconds.
    flags: ClassVar[Mapping[str, str]] = {"pre-vote": "true"}

    def __init__(self, folder: Path, members: int = 3) -> None:
        super().__init__(folder, members)
        self._cuts = Cuts()
        self._relays: list[Relay] = []
        for member in self.members:
            clients = frozenset({f"{member.name} clients"})
            relay = Relay((member.ip, CLIENT_PORT), self._cuts, lambda *_, ends=clients: ends)
            member.told_address = relay.address
            peers = Relay((member.ip, PEER_PORT), self._cuts, self._peers_of(member.name))
            member.told_peer = peers.address
            self._relays += [relay, peers]

    @contextmanager
    def cut_off(self, name: str, *, clients: bool = True, peers: bool = True) -> Iterator[None]:
        """Let nothing pass from and to that member, its clients or its peers or both."""
        kinds = [kind for kind, wanted in (("clients", clients), ("peers", peers)) if wanted]
        with self._cuts.cut(frozenset(f"{name} {kind}" for kind in kinds)):
            yield

    def close(self) -> None:
        """End members and relays."""
        self._cuts.end()
        super().close()
        for relay in self._relays:
            relay.close()

    def _peers_of(self, target: str) -> Callable[[Place, Place], Ends]:
        def ends(source: Place, relay: Place) -> Ends:
            return frozenset({f"{target} peers", f"{self._who(source, relay)} peers"})

        return ends

    def _who(self, source: Place, relay: Place) -> str:
        """The member whose process a connection comes from; "" when it is closed already."""
        inode = _inode(source, relay)
        for member in self.members:
            if inode and member.process.running and _has(member.process.pid, inode):
                return member.name
        return ""


def _inode(own: Place, other: Place) -> str:
    """The kernel's number for the socket at the one end of a connection; "" for none.

    Both ends count: connections to several places may share a port of their own.
    """
    wanted = [_packed(own), _packed(other)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1:3] == wanted:
            return words[9]
    return ""


def _packed(place: Place) -> str:
    address = "".join(f"{int(part):02X}" for part in reversed(place[0].split(".")))
    return f"{address}:{place[1]:04X}"


def _has(pid: int, inode: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{number}") == f"socket:[{inode}]":
                    return True
    return False
