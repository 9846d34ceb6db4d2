"""Requests and what transactions are made of, in the words of this backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import RolledBackError, RuntimeInconsistency

from leadertag_zookeeper.failures import CHANGED, translated
from leadertag_zookeeper.link import Link, Request, name_of

Operation = Callable[[TransactionRequest], None]
Heard = Callable[[Any], None]
"""Is told, once, on a thread of kazoo's, that something that was read has changed."""
ANY = -1
"""Any version."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A node without its value. ``created`` and ``modified`` are transactions: czxid, mzxid."""

    created: int
    modified: int
    version: int
    session: str
    """Of an ephemeral node, the session that it hangs on; else ``"0"``."""

    @classmethod
    def of(cls, found: Any) -> Stat:
        """Read kazoo's."""
        return cls(found.czxid, found.mzxid, found.version, name_of(found.ephemeralOwner))


@dataclass(frozen=True, slots=True)
class Node:
    """A node and its value. One without a value stands for one that is not there."""

    value: bytes
    stat: Stat


# -- reads: each returns a request for Link.ask ---------------------------------------------


def sync(path: str) -> Request:
    """What is read after it, on the same link, is at least as new as this moment."""
    return lambda client: client.sync_async(path)


def read(path: str) -> Request:
    """Read a node; :func:`node_of` makes one of the answer."""
    return lambda client: client.get_async(path)


def look(path: str, heard: Heard | None = None) -> Request:
    """Read a node's stat; with ``heard`` be told of its next change, creation or deletion."""
    return lambda client: client.exists_async(path, watch=heard)


def children(path: str, heard: Heard | None = None) -> Request:
    """Read the names of a node's children; with ``heard`` be told of the next change of them."""
    return lambda client: client.get_children_async(path, watch=heard)


def node_of(answer: Any) -> Node | None:
    """Return the node in the answer to :func:`read`."""
    return None if answer is None else Node(answer[0], Stat.of(answer[1]))


def stat_of(answer: Any) -> Stat | None:
    """Return the stat in the answer to :func:`look`."""
    return None if answer is None else Stat.of(answer)


# -- transactions ----------------------------------------------------------------------------


def check(path: str, version: int = ANY) -> Operation:
    """Nothing is done unless the node is there, with that version."""
    return lambda transaction: transaction.check(path, version)


def put(path: str, value: bytes, version: int = ANY) -> Operation:
    """Write a node that is there, with that version."""
    return lambda transaction: transaction.set_data(path, value, version)


def delete(path: str, version: int = ANY) -> Operation:
    """Delete a node that is there, with that version."""
    return lambda transaction: transaction.delete(path, version)


def create(path: str, value: bytes, *, ephemeral: bool = False) -> list[Operation]:
    """Create a node that is not there; an ephemeral one on the session of the link.

    Created empty and then written: only a write tells the transaction that it was part of.
    """
    return [
        lambda transaction: transaction.create(path, b"", ephemeral=ephemeral),
        put(path, value, 0),
    ]


def write(path: str, value: bytes, present: Stat | None) -> list[Operation]:
    """Replace a node that is still as it was seen, or create the one that was not there."""
    return create(path, value) if present is None else [put(path, value, present.version)]


def commit(link: Link, operations: Sequence[Operation]) -> int:
    """Do all or nothing; return the transaction (zxid), 0 for nothing.

    At least one of the operations has to be :func:`put`. Raises BackendUnavailable when it is
    not known what became of it, LeaseLost when a bound link's session is gone.
    """

    def send(client: KazooClient) -> Any:
        transaction = client.transaction()
        for operation in operations:
            operation(transaction)
        return transaction.commit_async()

    results = link.send(send)
    failed = [one for one in results if isinstance(one, Exception)]
    causes = [e for e in failed if not isinstance(e, RolledBackError | RuntimeInconsistency)]
    if causes and not isinstance(causes[0], CHANGED):
        raise translated(causes[0], link.where) from causes[0]
    if failed:
        return 0
    return max(int(one.mzxid) for one in results if hasattr(one, "mzxid"))
