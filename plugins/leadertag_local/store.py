"""The database file: connections, transactions, and their failures in one line each."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from leadertag.errors import BackendError, BackendUnavailable, ConfigError
from leadertag_local import schema
from leadertag_local.wakeups import poke

_MESSAGES = {
    "SQLITE_BUSY": "another process has kept it locked for more than {timeout:g}s",
    "SQLITE_CORRUPT": "the database is damaged; stop every leadertag of this host, then restore "
    "it, or remove it together with {folder}",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the file or its folder is read-only for this user",
    "SQLITE_PERM": "this user may not access it",
    "SQLITE_AUTH": "this user may not access it",
    "SQLITE_CANTOPEN": "cannot be opened: the folder is missing or not accessible for this user",
}
_BUSY = "this process has kept it locked for more than {timeout:g}s"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What making sense of a row raises that leadertag has not written."""


class Store:
    """One database file, as seen by one process. All methods from any thread.

    Connections are pooled, not bound to threads; each serves one thread at a time. One reads
    at a time, and one writes, so that a hundred elections need no more connections than one:
    SQLite closes none while others of the process are open (a POSIX lock would go with it), so
    what was needed once would stay. Who reads never waits for who writes. A forked child
    never touches the connections of its parent, which SQLite forbids.
    """

    def __init__(self, path: str, *, own_folder: bool, timeout: float) -> None:
        """Does no I/O. ``timeout`` is how long to wait for other processes, in seconds."""
        self.path = path
        self.folder = path + ".d"
        self.beats_folder = os.path.join(self.folder, "beats")
        self.watchers_folder = os.path.join(self.folder, "watchers")
        self.timeout = timeout
        self._own_folder = own_folder
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._abandoned: list[Connection] = []

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that reads: one consistent state, begun after the call."""
        with self._turn(self._reading, self.timeout), self._transaction("BEGIN") as database:
            yield database

    @contextmanager
    def write(self, timeout: float | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction that writes, alone; all or nothing. Wakes every watch afterwards.

        Rolled back when the block raises. Waits at most ``timeout`` seconds to begin.
        """
        wait = self.timeout if timeout is None else min(timeout, self.timeout)
        with (
            self._turn(self._writing, wait) as left,
            self._transaction("BEGIN IMMEDIATE", left) as database,
        ):
            yield database
        self.poke()

    @contextmanager
    def _turn(self, turns: threading.Lock, wait: float) -> Iterator[float]:
        """Wait for this process's other threads; yields the seconds that are left."""
        deadline = time.monotonic() + wait
        if not turns.acquire(timeout=wait):
            raise BackendUnavailable(f"{self.path}: {_BUSY.format(timeout=wait)}")
        try:
            yield max(0.0, deadline - time.monotonic())
        finally:
            turns.release()

    def poke(self) -> None:
        """Wake every watch of every process."""
        poke(self.watchers_folder)

    def connect(self) -> Connection:
        """Open a connection of the caller's own; raise a BackendError or ConfigError."""
        with self.translated():
            schema.prepare(
                self.path, self.folder, own_folder=self._own_folder, timeout=self.timeout
            )
            return Connection(self.path, self.timeout)

    def close(self) -> None:
        """Close what is idle; a later verb opens it again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of sqlite3, of the file system and of reading rows into leadertag's."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(error) from error
        except OSError as error:
            where = error.filename or self.path
            raise BackendUnavailable(f"{where}: {error.strerror or error}") from error
        except _UNREADABLE as error:
            text = " ".join(str(error).split())[:200]
            raise BackendUnavailable(
                f"{self.path}: holds what leadertag has not written there, it may be damaged: "
                f"{type(error).__name__}: {text}"
            ) from error

    @contextmanager
    def _transaction(
        self, begin: str, timeout: float | None = None
    ) -> Iterator[sqlite3.Connection]:
        connection = self._take()
        usable = False
        try:
            with self.translated(), connection.transaction(begin, timeout) as database:
                yield database
            usable = True
        except (BackendUnavailable, ConfigError):
            raise  # whatever is wrong with the file: start over with a new connection
        except BaseException:
            usable = connection.clean
            raise
        finally:
            self._give_back(connection, usable=usable)

    def _take(self) -> Connection:
        with self._lock:
            if self._pid != os.getpid():
                # Forked. Even closing them here could disturb the parent: keep them.
                self._abandoned += self._idle
                self._idle, self._pid = [], os.getpid()
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if connection.current():
                return connection
            # The file was replaced or removed: what this connection says is not true any more.
            connection.close()
            self.close()
        return self.connect()

    def _give_back(self, connection: Connection, *, usable: bool) -> None:
        if usable and connection.pid == os.getpid():
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()

    def _translate(self, error: sqlite3.Error) -> BackendError | ConfigError:
        name = str(getattr(error, "sqlite_errorname", ""))
        primary = "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is a SQLITE_IOERR
        if primary == "SQLITE_NOTADB":
            return ConfigError(f"{self.path}: is not a database of leadertag, or is damaged")
        known = _MESSAGES.get(primary)
        if known is None:
            text = " ".join(str(error).split()) or "SQLite failed"
            return BackendUnavailable(f"{self.path}: {text} ({name or type(error).__name__})")
        return BackendUnavailable(
            f"{self.path}: {known.format(timeout=self.timeout, folder=self.folder)}"
        )


class Connection:
    """One connection and the identity of the file that it has open."""

    def __init__(self, path: str, timeout: float) -> None:
        self.pid = os.getpid()
        self._path = path
        self._timeout = timeout
        before = _identity(path)  # replaced meanwhile: then the next look tells
        self.database = schema.connect(path, timeout)
        try:
            schema.check(self.database, path)
            # FULL: a committed term survives a power cut. Writes are rare, so this is cheap.
            self.database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            self.database.close()
            raise
        self._identity = before

    @property
    def clean(self) -> bool:
        """Whether no transaction is open, so that it can be used again."""
        return not self.database.in_transaction

    def current(self) -> bool:
        """Whether the path still leads to the file that is open."""
        return _identity(self._path) == self._identity

    @contextmanager
    def transaction(self, begin: str, timeout: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield the database within a transaction; commit, or roll back on any error."""
        wait = self._timeout if timeout is None else min(timeout, self._timeout)
        self.database.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
        self.database.execute(begin)
        try:
            yield self.database
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                with suppress(sqlite3.Error):
                    self.database.execute("ROLLBACK")
            raise

    def data_version(self) -> int:
        """Return a number that differs after another connection's commit."""
        with closing(self.database.execute("PRAGMA data_version")) as rows:
            return int(rows.fetchone()[0])

    def close(self) -> None:
        """Close it, unless it belongs to the process that this one was forked from."""
        if self.pid == os.getpid():
            with suppress(sqlite3.Error):
                self.database.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
