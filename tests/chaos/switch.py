"""The switch: a process that moves frames between the nodes' wires, or loses them, or waits.

``python -m tests.chaos.switch SOCKET PORT …`` in a namespace with those wires. Over the
socket it gets all rules as one JSON line, ``[[from, to, {"delay_ms": …, "loss": …}], …]`` with
the ports' numbers, and answers with one byte once they hold. It ends when the socket does.

Exact where it matters: each ordered pair of ports has a rule of its own, and frames of one
pair never overtake one another, however late they are.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
from collections.abc import Sequence

from tests.chaos.clock import now

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_BATCH = 64
"""Frames of one port before the others get their turn."""
_LONGEST = 65535


class Switch:
    """Forwards by the last byte of the destination's address, which is the port's number."""

    def __init__(self, control: socket.socket, ports: Sequence[str]) -> None:
        self._control = control
        self._ports = [_open(port) for port in ports]
        self._rules: dict[tuple[int, int], tuple[float, float]] = {}
        self._late: list[tuple[float, int, int, bytes]] = []
        self._last_due: dict[tuple[int, int], float] = {}
        self._count = 0
        self._buffer = b""

    def run(self) -> None:
        """Forward until the control socket ends."""
        poller = select.epoll()
        numbers = {port.fileno(): number for number, port in enumerate(self._ports)}
        for descriptor in (*numbers, self._control.fileno()):
            poller.register(descriptor, select.EPOLLIN)
        while True:
            for descriptor, _ in poller.poll(self._patience()):
                if descriptor in numbers:
                    self._take(numbers[descriptor])
                elif not self._listen():
                    return
            self._send_late()

    def _patience(self) -> float:
        return max(0.0, self._late[0][0] - now()) if self._late else -1

    def _take(self, source: int) -> None:
        for _ in range(_BATCH):
            try:
                frame = self._ports[source].recv(_LONGEST)
            except BlockingIOError:
                return
            except OSError:
                return  # the wire is being taken down
            if frame[0] & 1:  # to everybody
                for target in range(len(self._ports)):
                    if target != source:
                        self._forward(source, target, frame)
            elif 0 < frame[5] <= len(self._ports):
                self._forward(source, frame[5] - 1, frame)

    def _forward(self, source: int, target: int, frame: bytes) -> None:
        delay, loss = self._rules.get((source, target), (0.0, 0.0))
        if loss and random.random() < loss:
            return
        before = self._last_due.get((source, target), 0.0)
        due = now() + delay
        if not delay and before <= due:
            self._send(target, frame)
            return
        due = self._last_due[source, target] = max(due, before)
        self._count += 1
        heapq.heappush(self._late, (due, self._count, target, frame))

    def _send_late(self) -> None:
        while self._late and self._late[0][0] <= now():
            _, _, target, frame = heapq.heappop(self._late)
            self._send(target, frame)

    def _send(self, target: int, frame: bytes) -> None:
        try:
            self._ports[target].send(frame)
        except OSError:
            return  # its queue is full, or it is down: frames may be lost

    def _listen(self) -> bool:
        data = self._control.recv(65536)
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._rules = {
                (source, target): (rule["delay_ms"] / 1000, rule["loss"])
                for source, target, rule in json.loads(line)
            }
            self._control.sendall(b".")
        return bool(data)


def _open(port: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.bind((port, 0))
    opened.setblocking(False)
    return opened


def main(path: str, ports: Sequence[str]) -> None:
    """See the module's text."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.connect(path)
        Switch(control, ports).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
