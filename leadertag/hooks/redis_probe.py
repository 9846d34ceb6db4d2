"""Watches a Redis server over one connection that stays open.

It lives in the daemon, where redis-py would cost some 20 MiB; the few words of RESP
that it needs (https://redis.io/docs/latest/develop/reference/protocol-spec/) do not.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from leadertag.errors import HookError
from leadertag.model import Health

_log = logging.getLogger("leadertag.hooks")

_CHUNK = 64 * 1024
_LONGEST = 1024 * 1024

# What an error in answer to PING says about the server. A replica without its master
# answers MASTERDOWN where it may not serve old data; it must still be able to succeed.
_ANSWERS = {"PONG": Health.PASSING, "MASTERDOWN": Health.PASSING, "LOADING": Health.CRITICAL}


@dataclass(frozen=True)
class RedisServer:
    """Where a server is and how to log in; shown to people without the password."""

    host: str
    port: int
    path: str = ""
    tls: bool = False
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> RedisServer:
        """Read a URL as redis-py does; raises ValueError, whose text never contains it."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            port = parts.port or 6379
        except ValueError:
            raise ValueError("has a port that is no number") from None
        if parts.scheme == "unix" and not parts.path:
            raise ValueError("must name the socket: unix:///path/to/socket")
        return cls(
            host=parts.hostname or "localhost",
            port=port,
            path=unquote(parts.path) if parts.scheme == "unix" else "",
            tls=parts.scheme == "rediss",
            username=unquote(parts.username or options.get("username", "")),
            password=unquote(parts.password or "") or options.get("password", ""),
            options=options,
        )

    def connect(self, timeout: float) -> socket.socket:
        """Open a connection; raises OSError."""
        if self.path:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                plain.settimeout(timeout)
                plain.connect(self.path)
            except BaseException:
                plain.close()
                raise
            return plain
        plain = socket.create_connection((self.host, self.port), timeout)
        if not self.tls:
            return plain
        try:
            return self._secured(plain)
        except BaseException:
            plain.close()
            raise

    def _secured(self, plain: socket.socket) -> socket.socket:
        import ssl

        context = ssl.create_default_context(cafile=self.options.get("ssl_ca_certs"))
        if self.options.get("ssl_check_hostname", "").lower() == "false":
            context.check_hostname = False
        if self.options.get("ssl_cert_reqs") == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if "ssl_certfile" in self.options:
            context.load_cert_chain(self.options["ssl_certfile"], self.options.get("ssl_keyfile"))
        return context.wrap_socket(plain, server_hostname=self.host)


class RedisProbe:
    """The health of a server, known anew every interval, and at once when it breaks.

    Critical: the connection broke and a new one could not be made; no answer to PING in
    time; the server is loading its data; or another process answers than before, so that
    the one that was led is gone, however quickly it was replaced. Any other refusal is a
    warning. One thread polls; any may close.
    """

    def __init__(
        self,
        server: RedisServer,
        credentials: Callable[[], tuple[str, str]],
        *,
        interval: float,
        timeout: float,
        connect_timeout: float,
    ) -> None:
        """``credentials()`` returns user name and password, each possibly empty."""
        self._server = server
        self._credentials = credentials
        self._interval = interval
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._connection: _Connection | None = None
        self._process = ""
        self._due = 0.0
        self._complaint = ""
        self._closed = False
        self._polling = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()

    def poll(self, timeout: float) -> Health | None:
        """See :class:`leadertag.hookspecs.Probe`."""
        with self._polling:
            if self._closed:
                return None
            now = time.monotonic()
            if now < self._due:
                wait = min(timeout, self._due - now)
                # Without a question under way, anything to be read is the end.
                fd = self._connection.fileno() if self._connection else None
                if not _readable(fd, self._wake_read, wait) and time.monotonic() < self._due:
                    return None
            return None if self._closed else self._ask()

    def close(self) -> None:
        """See :class:`leadertag.hookspecs.Probe`."""
        self._closed = True
        with suppress(OSError):
            self._wake_write.send(b"x")
        with self._polling:
            self._drop()
            self._wake_read.close()
            self._wake_write.close()

    def _ask(self) -> Health | None:
        """Ask on the open connection, and where that is broken once more on a new one."""
        attempts = 2 if self._connection else 1
        try:
            for attempt in range(attempts):
                try:
                    return self._asked()
                except TimeoutError:
                    return self._lost("it does not answer")
                except (OSError, EOFError, ValueError) as error:
                    self._drop()
                    if attempt == attempts - 1:
                        return self._lost(str(getattr(error, "strerror", None) or error))
        except HookError as error:  # the password cannot be read
            return self._told(Health.WARNING, str(error))
        finally:
            self._due = time.monotonic() + self._interval
        return None

    def _asked(self) -> Health:
        if self._connection is None:
            self._connection = self._connect()
            process = self._connection.process_id()
            replaced = self._process and process and process != self._process
            self._process = process or self._process
            if replaced:
                return self._told(Health.CRITICAL, "it was restarted meanwhile")
        answer = self._connection.ask("PING")
        word = answer.partition(" ")[0]
        health = _ANSWERS.get(word, Health.WARNING)
        return self._told(health, "" if health is Health.PASSING else answer)

    def _connect(self) -> _Connection:
        username, password = self._credentials()
        raw = self._server.connect(self._connect_timeout)
        connection = _Connection(raw, self._wake_read, self._timeout)
        try:
            if password:
                # Refused or not: what PING is answered then tells.
                connection.ask("AUTH", *([username] if username else []), password)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lost(self, why: str) -> Health | None:
        self._drop()
        return None if self._closed else self._told(Health.CRITICAL, why)

    def _told(self, health: Health, complaint: str) -> Health:
        if complaint and complaint != self._complaint:
            _log.warning("redis probe: %s is %s: %s", self._server, health, complaint)
        self._complaint = complaint
        return health

    def _drop(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


class _Connection:
    """One question, one answer; raises TimeoutError, EOFError, OSError or ValueError."""

    def __init__(self, raw: socket.socket, wake: socket.socket, timeout: float) -> None:
        # TLS may have decrypted bytes in its buffer that no poll would tell of: so it
        # blocks, for the time-out at most, and is read until an answer is complete.
        raw.settimeout(timeout)
        self._raw = raw
        self._wake = wake
        self._timeout = timeout
        self._buffer = b""

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()

    def process_id(self) -> str:
        """Return what tells one run of the server from the next, ``""`` if it does not say."""
        for line in self.ask("INFO", "server").splitlines():
            name, _, value = line.partition(":")
            if name == "run_id":
                return value.strip()
        return ""

    def ask(self, *words: str) -> str:
        """Return the answer's text, without the mark that tells errors from answers."""
        parts = [f"*{len(words)}\r\n".encode()]
        parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
        self._raw.sendall(b"".join(parts))
        deadline = time.monotonic() + self._timeout
        line = self._line(deadline)
        if line[:1] in (b"+", b"-"):
            return line[1:].decode(errors="replace")
        if line[:1] != b"$" or not line[1:].isdigit() or int(line[1:]) > _LONGEST:
            raise ValueError("no Redis server: it answers in another language")
        size = int(line[1:])
        while len(self._buffer) < size + 2:
            self._more(deadline)
        body, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return body.decode(errors="replace")

    def _line(self, deadline: float) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _LONGEST:
                raise ValueError("no Redis server: its answer does not end")
            self._more(deadline)
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _more(self, deadline: float) -> None:
        pending = getattr(self._raw, "pending", int)()  # only TLS has it
        rest = deadline - time.monotonic()
        if not pending and not _readable(self._raw.fileno(), self._wake, rest):
            raise TimeoutError("no answer in time")
        data = self._raw.recv(_CHUNK)
        if not data:
            raise EOFError("it closed the connection")
        self._buffer += data


def _readable(fd: int | None, wake: socket.socket, timeout: float) -> bool:
    """Wait until ``fd`` can be read; ``False`` after the time, or when woken by a close."""
    poller = select.poll()
    poller.register(wake.fileno(), select.POLLIN)
    if fd is not None:
        poller.register(fd, select.POLLIN)
    ready = {number for number, _ in poller.poll(max(0.0, timeout) * 1000)}
    return fd in ready and wake.fileno() not in ready
