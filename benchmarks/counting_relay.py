"""Counts HTTP requests by kind on their way to a server; passes everything on as it is."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

_CHUNK = 65536
_END = b"\r\n\r\n"


class CountingRelay:
    """Listens on a port of an address; `close` ends it and all connections through it."""

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        """Begins to serve at once."""
        self._target = target
        self._mutex = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._blocking: set[socket.socket] = set()
        """Connections on which a blocking read waits for its answer."""
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((address, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self._serve, name="counting relay", daemon=True).start()

    @property
    def counts(self) -> dict[str, int]:
        """How many requests were seen so far, by kind: "GET /v1/kv (blocking)"."""
        with self._mutex:
            return dict(self._counts)

    @property
    def waiting(self) -> int:
        """How many blocking reads wait for an answer now: what a watch is made of."""
        with self._mutex:
            return len(self._blocking)

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        with self._mutex:
            self._open |= {near, far}
        back = threading.Thread(target=self._answer, args=(near, far), daemon=True)
        back.start()
        reader = _Requests()
        with suppress(OSError):
            while data := near.recv(_CHUNK):
                self._count(near, reader.feed(data))
                far.sendall(data)
        self._shut(near, far)
        back.join()
        with self._mutex:
            self._open -= {near, far}
            self._blocking.discard(near)
        near.close()
        far.close()

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(_CHUNK):
                with self._mutex:
                    self._blocking.discard(near)
                near.sendall(data)
        self._shut(near, far)

    def _count(self, near: socket.socket, kinds: list[str]) -> None:
        with self._mutex:
            self._counts.update(kinds)
            if kinds and kinds[-1].endswith("(blocking)"):
                self._blocking.add(near)

    def _shut(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Requests:
    """Finds the requests in one connection's bytes: HTTP/1.1 with Content-Length only."""

    def __init__(self) -> None:
        self._buffer = b""
        self._body_left = 0

    def feed(self, data: bytes) -> list[str]:
        """Take more bytes; return the kinds of the requests that begin in them."""
        self._buffer += data
        found: list[str] = []
        while True:
            skipped = min(self._body_left, len(self._buffer))
            self._buffer, self._body_left = self._buffer[skipped:], self._body_left - skipped
            head, end, rest = self._buffer.partition(_END)
            if self._body_left or not end:
                return found
            first, *headers = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value for name, _, value in (h.partition(":") for h in headers)}
            self._buffer, self._body_left = rest, int(fields.get("content-length", "0"))
            found.append(_kind(first))


def _kind(line: str) -> str:
    """Return ``GET /v1/session/renew`` for a request line: without names and ids."""
    method, target, _ = line.split(" ", 2)
    parts = urlsplit(target)
    words = parts.path.split("/")[1:]
    if words[1:2] in (["kv"], ["txn"]):
        words = words[:2]
    elif words[1:2] in (["agent"],):
        words = words[:4] if words[2:3] == ["check"] else words[:3]
    else:
        words = words[:3]
    blocking = " (blocking)" if "index" in parse_qs(parts.query) else ""
    return f"{method} /{'/'.join(words)}{blocking}"
