"""What is in the file, and how a new one is made so that a kill at any moment does no harm."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from leadertag.errors import BackendUnavailable, ConfigError

VERSION = 1
APPLICATION = 0x6C746167  # "ltag": tells our files from other people's databases

_TABLES = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('term', 0), ('index', 0);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, ttl REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE locks (
    key TEXT PRIMARY KEY, idx INTEGER NOT NULL, holder TEXT NOT NULL, term INTEGER NOT NULL,
    released INTEGER NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE instances (
    node TEXT NOT NULL, id TEXT NOT NULL, service TEXT NOT NULL, address TEXT NOT NULL,
    port INTEGER NOT NULL, tags TEXT NOT NULL, meta TEXT NOT NULL, node_meta TEXT NOT NULL,
    health TEXT NOT NULL, output TEXT NOT NULL, beat TEXT NOT NULL,
    PRIMARY KEY (node, id)
) WITHOUT ROWID;
CREATE INDEX instances_of ON instances (service);
CREATE TABLE gates (
    node TEXT NOT NULL, instance TEXT NOT NULL, id TEXT NOT NULL, election TEXT NOT NULL,
    term INTEGER NOT NULL, opened INTEGER NOT NULL, shut INTEGER NOT NULL, owner TEXT NOT NULL,
    PRIMARY KEY (node, instance, id)
) WITHOUT ROWID;
CREATE TABLE queries (
    name TEXT PRIMARY KEY, service TEXT NOT NULL, definition TEXT NOT NULL
) WITHOUT ROWID;
"""
_ADDED = """
CREATE TABLE IF NOT EXISTS notes (
    key TEXT NOT NULL, name TEXT NOT NULL, idx INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (key, name)
) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('note', 0);
"""
"""What the first files of this version lack. It is added to them: an older leadertag on the same
host knows nothing of it and is not disturbed by it, so the version stays."""


def connect(path: str, timeout: float) -> sqlite3.Connection:
    """Open an existing file; never make one. Transactions are begun by hand."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(path: str, folder: str, *, own_folder: bool, timeout: float) -> None:
    """Make sure that the file, of this version, and the folders beside it are there.

    Raises ConfigError for somebody else's file and BackendUnavailable when ours vanished;
    lets OSError and sqlite3.Error through.
    """
    parent = os.path.dirname(path)
    if own_folder:
        os.makedirs(parent, mode=0o700, exist_ok=True)
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a folder; the path of the database is a file")
    if not os.path.isdir(parent):
        raise BackendUnavailable(f"{path}: there is no folder {parent}")
    marker = os.path.join(folder, "made")
    if os.path.exists(path) and os.path.exists(marker):
        return
    for each in (folder, os.path.join(folder, "beats"), os.path.join(folder, "watchers")):
        with suppress(FileExistsError):
            os.mkdir(each, 0o700)
    with _exclusively(os.path.join(folder, "making")):
        if os.path.exists(marker):
            if not os.path.exists(path):
                raise _vanished(path, folder)
            return
        _make(path, timeout)
        # Last: a kill before this leaves a whole file, or one that is completed next time.
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _vanished(path: str, folder: str) -> BackendUnavailable:
    # Making a new one here would let a second leader start while the first, which has not
    # noticed yet, still acts: with the file its lock and the memory of it are gone.
    return BackendUnavailable(
        f"{path}: the database was removed while in use; stop every leadertag of this host, "
        f"then restore it, or remove {folder} as well to start anew"
    )


def check(database: sqlite3.Connection, path: str) -> None:
    """Raise ConfigError unless the database is leadertag's and of this version; complete it."""
    application = _pragma(database, "application_id")
    version = _pragma(database, "user_version")
    if application != APPLICATION:
        if os.path.getsize(path) == 0:
            raise BackendUnavailable(
                f"{path}: the database was emptied while in use; stop every leadertag of this "
                f"host, then restore it, or remove it together with {path}.d"
            )
        raise ConfigError(f"{path}: is a database, but not one of leadertag")
    if version != VERSION:
        raise ConfigError(
            f"{path}: is of schema version {version}, but this leadertag reads version "
            f"{VERSION}; use the leadertag that wrote it"
        )
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchone():
        _run(database, _ADDED)


def _make(path: str, timeout: float) -> None:
    with suppress(FileExistsError):
        # Before SQLite can: it would make it readable for everybody; the files that it puts
        # beside it inherit this mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = connect(path, timeout)
    try:
        if _pragma(database, "application_id") == APPLICATION:
            return  # made by a process that was killed before it wrote the marker
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ConfigError(f"{path}: is a database, but not one of leadertag")
        mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigError(f"{path}: needs a local file system (it cannot do SQLite's WAL)")
        mark = f"PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION}"
        _run(database, _TABLES + _ADDED + mark)
    finally:
        database.close()


def _run(database: sqlite3.Connection, statements: str) -> None:
    """Carry out all of them or, whatever happens, none."""
    database.execute("BEGIN IMMEDIATE")
    for statement in statements.split(";"):
        database.execute(statement)
    database.execute("COMMIT")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _exclusively(path: str) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
