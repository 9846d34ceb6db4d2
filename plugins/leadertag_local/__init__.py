"""The embedded backend: the processes of one host elect among themselves, without a server.

Everything is in one SQLite file in WAL mode and a folder ``<file>.d`` beside it:

- the file has locks, sessions, instances, gates and queries; each verb is one transaction;
- ``beats`` has a file of 24 bytes for whatever has to be alive (a session, a process that
  keeps gates open, an instance's reported health). Being alive is written there and not
  into the database, so that in the steady state the database is not written at all;
- ``watchers`` has a FIFO for each watch, which every writer pokes after its commit.

Time is ``CLOCK_BOOTTIME``, the same for all processes of the host and running on through
suspend; what an earlier boot wrote has expired.

What this backend cannot do: see anything beyond its host, and go on while a process is
stopped (SIGSTOP) in the middle of one of its own transactions, which lasts well under a
millisecond of its running time. The others then report that the file is locked.
"""

from __future__ import annotations

from leadertag_local.lock import LocalLock
from leadertag_local.query import LocalQuery
from leadertag_local.registry import LocalRegistry

__all__ = ["LocalLock", "LocalQuery", "LocalRegistry"]
