"""HTTP to one agent with the standard library: keep-alive, time-outs, TLS, unix sockets.

Safe for threads: each request has a connection to itself, taken from a pool that never
has more than ``size`` of them.
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadertag.errors import BackendUnavailable, ConfigError
from leadertag_consul.address import Address
from leadertag_consul.settings import Tls

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


CHUNK = 1 << 16
LONGEST_BODY = 64 << 20
"""Bytes; thousands of locks and instances fit many times."""


class Transport:
    """The connections to one agent."""

    def __init__(self, address: Address, tls: Tls, *, timeout: float, size: int) -> None:
        """``timeout`` (seconds) bounds connecting and each request; ``size`` the pool."""
        self.address = address
        self._tls = tls
        self._timeout = timeout
        self._slots = threading.BoundedSemaphore(size)
        self._mutex = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._aborted = False
        self._context: ssl.SSLContext | None = None

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
        for connection in idle:
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
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            body_read = _read(response, connection.sock, deadline)
            answer = RawAnswer(response.status, response.headers, body_read)
            done = not response.will_close
            return answer
        finally:
            with self._mutex:
                self._busy.discard(connection)
                keep = done and not self._aborted
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        while True:
            with self._mutex:
                connection = self._idle.pop() if self._idle else None
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
        with self._mutex:
            if self._context is None:
                self._context = _context(self._tls)
        return _TlsConnection(address, self._context, self._tls.server_name)

    def _unavailable(self, method: str, target: str, error: Exception) -> BackendUnavailable:
        kind = Aborted if self._aborted else BackendUnavailable
        what = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
        return kind(f"Consul at {self.address}: {method} {target.partition('?')[0]}: {what}")


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


def _context(tls: Tls) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None, capath=tls.ca_path or None)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            name for name in (tls.ca_file, tls.ca_path, tls.cert_file, tls.key_file) if name
        )
        raise ConfigError(f"TLS files cannot be used ({files}): {_reason(error)}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(response: http.client.HTTPResponse, sock: socket.socket | None, deadline: float) -> bytes:
    """Read the body by its deadline, however slowly it trickles, up to a sane size."""
    parts: list[bytes] = []
    size = 0
    while True:
        if sock is not None:
            sock.settimeout(_left(deadline))
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


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
