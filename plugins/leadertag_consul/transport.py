"""HTTP to one agent with the standard library: keep-alive, time-outs, TLS, unix sockets.

Safe for threads: each request has a connection to itself, taken from a pool that never
has more than ``size`` of them.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leadertag.errors import BackendUnavailable
from leadertag_consul.address import Address
from leadertag_consul.files import TlsFiles, why

if TYPE_CHECKING:
    import ssl

_BROKEN = (OSError, http.client.HTTPException, ValueError, AttributeError)
"""What a connection may raise. The last two: ``abort`` took the socket from under a reader."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came; ``headers`` are looked up without regard to case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Aborted(BackendUnavailable):
    """The request was ended by :meth:`Transport.abort`, on purpose."""


_SPARE = 10.0
"""Seconds after which a connection that was not needed is closed."""
CHUNK = 1 << 16
LONGEST_BODY = 64 << 20
"""Bytes; thousands of locks and instances fit many times."""


class Transport:
    """The connections to one agent."""

    def __init__(self, address: Address, tls: TlsFiles, *, timeout: float, size: int) -> None:
        """``timeout`` (seconds) bounds connecting and each request; ``size`` the pool."""
        self.address = address
        self._tls = tls
        self._timeout = timeout
        self._slots = threading.BoundedSemaphore(size)
        self._mutex = threading.Lock()
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        """Since when, and which: what was used last comes last, and is taken first."""
        self._busy: set[http.client.HTTPConnection] = set()
        self._aborted = False

    def request(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None, extra: float
    ) -> RawAnswer:
        """Send one request; ``extra`` seconds are allowed on top of the time-out.

        Raises BackendUnavailable when no whole answer came in time. A GET is sent once
        more when a connection kept from before turns out to be closed: it was never
        answered, and changes nothing. Nothing else is ever repeated.
        """
        deadline = time.monotonic() + self._timeout + extra
        if not self._slots.acquire(timeout=self._timeout):
            raise BackendUnavailable(f"Consul at {self.address}: all connections are waiting")
        try:
            connection, kept = self._take()
            try:
                return self._exchange(connection, method, target, headers, body, deadline)
            except (ConnectionError, http.client.BadStatusLine) as error:
                if not kept or method != "GET" or self._aborted:
                    raise self._unavailable(method, target, error) from error
            except _BROKEN as error:
                raise self._unavailable(method, target, error) from error
            try:
                return self._exchange(self._fresh(), method, target, headers, body, deadline)
            except _BROKEN as error:
                raise self._unavailable(method, target, error) from error
        finally:
            self._slots.release()

    def abort(self) -> None:
        """End every request under way, from another thread; later ones fail at once."""
        with self._mutex:
            self._aborted = True
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Close the idle connections; a later request opens new ones."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    # -- one connection ----------------------------------------------------------------

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, target: str,
        headers: dict[str, str], body: bytes | None, deadline: float,
    ) -> RawAnswer:  # fmt: skip
        with self._mutex:
            self._busy.add(connection)
        done = False
        try:
            if connection.sock is None:
                connection.timeout = _left(deadline, self._timeout)
                connection.connect()
            if self._aborted:
                raise ConnectionAbortedError("closed")
            connection.sock.settimeout(_left(deadline))
            connection.response_class = partial(_TimedResponse, deadline)  # type: ignore[assignment]
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            body_read = _read(response)
            answer = RawAnswer(response.status, response.headers, body_read)
            done = not response.will_close
            return answer
        finally:
            with self._mutex:
                self._busy.discard(connection)
                spare = self._spare(time.monotonic())
                if done and not self._aborted:
                    self._idle.append((time.monotonic(), connection))
                else:
                    spare.append(connection)
            for one in spare:
                one.close()

    def _spare(self, now: float) -> list[http.client.HTTPConnection]:
        """Take those out of the pool that a busier time has left."""
        spare = []
        while self._idle and self._idle[0][0] < now - _SPARE:
            spare.append(self._idle.pop(0)[1])
        return spare

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        while True:
            with self._mutex:
                connection = self._idle.pop()[1] if self._idle else None
            if connection is None:
                return self._fresh(), False
            # Readable although nothing was asked: the agent has closed it (a restart).
            # Seen here it costs nothing; seen by a PUT it would be an unknown outcome.
            if connection.sock is not None and not _readable(connection.sock):
                return connection, True
            connection.close()

    def _fresh(self) -> http.client.HTTPConnection:
        address = self.address
        if address.path:
            return _UnixConnection(address.path)
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port)
        return _TlsConnection(address, self._tls.context(), self._tls.settings.server_name)

    def _unavailable(self, method: str, target: str, error: Exception) -> BackendUnavailable:
        kind = Aborted if self._aborted else BackendUnavailable
        what = "no answer in time" if isinstance(error, TimeoutError) else why(error)
        if self.address.scheme == "https" and _cut_off(error):
            # With TLS 1.3 its reason is lost when it closes before our request is sent.
            what += f": {_MAYBE_NOT_ACCEPTED}"
        return kind(f"Consul at {self.address}: {method} {target.partition('?')[0]}: {what}")


class _TimedResponse(http.client.HTTPResponse):
    """Has to be complete by a deadline, from the first byte of its headers to the last one."""

    def __init__(self, deadline: float, sock: socket.socket, *rest: Any, **named: Any) -> None:
        super().__init__(sock, *rest, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, deadline))


class _TimedReader(io.RawIOBase):
    """Reads from a socket, each time with what is left until the deadline as the time-out.

    A time-out of the socket alone would bound each read, and begin anew with every byte.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until it is read
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


_MAYBE_NOT_ACCEPTED = (
    "the server ended the connection, as one does that does not accept the client's "
    "certificate, or misses one (see cert_file and key_file)"
)


def _cut_off(error: Exception) -> bool:
    return isinstance(error, ConnectionError) or "EOF occurred" in str(error)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _TlsConnection(http.client.HTTPConnection):
    """https, with the name to verify apart from the address to connect to."""

    def __init__(self, address: Address, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(address.host, address.port)
        self._tls_context = context
        self._server_name = server_name or address.host

    def connect(self) -> None:
        super().connect()
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._server_name)


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read the body up to a sane size."""
    parts: list[bytes] = []
    size = 0
    while True:
        part = response.read1(CHUNK)
        if not part:
            if response.length:  # read1 does not tell a body that was cut
                raise http.client.IncompleteRead(b"", response.length)
            response.close()  # the connection is free for the next request
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > LONGEST_BODY:
            raise http.client.HTTPException(f"more than {LONGEST_BODY >> 20} MiB of answer")


def _left(deadline: float, limit: float = 1e9) -> float:
    left = min(deadline - time.monotonic(), limit)
    if left <= 0:
        raise TimeoutError("no time left")
    return left


def _readable(sock: socket.socket) -> bool:
    # poll, not select: descriptors above 1024 are legal in a process with many sockets.
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
