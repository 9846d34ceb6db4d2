"""The one client of a process: requests with deadlines and failover, in our own terms.

It speaks to one member at a time, and to the next one when that fails. Reads are
linearizable, all of them. A write is sent once: it is sent again only when it certainly did
nothing, and otherwise reported as unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leadertag.errors import BackendUnavailable
from leadertag_etcd import library
from leadertag_etcd.failures import Failure
from leadertag_etcd.link import Link
from leadertag_etcd.settings import EtcdSettings

OPERATIONS = 100
"""In one transaction: etcd's own limit is 128."""
_TRIES = 3
"""Times that a read which nobody answers is sent, a quarter, a quarter and a half of the limit."""
_LEAST = 0.05  # seconds; with less left, another member is not worth trying
_HAS_LEADER = ("hasleader", "true")
"""Makes a member refuse at once, and end its watches, when it is cut off from the quorum."""

Send = Callable[[Link, dict[str, Any]], Any]
"""Sends one request over a link; the keywords are gRPC's time-out and metadata."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it stands. ``created`` and ``modified`` are revisions; ``lease`` 0 is none."""

    key: str
    value: bytes
    created: int
    modified: int
    lease: int


@dataclass(frozen=True, slots=True)
class Span:
    """One key, or a range of them up to ``end``."""

    start: bytes
    end: bytes = b""

    @classmethod
    def key(cls, key: str) -> Span:
        """Return the span of one key."""
        return cls(key.encode())

    @classmethod
    def under(cls, prefix: str) -> Span:
        """Return the span of all keys that begin so; the prefix ends with a slash."""
        return cls(prefix.encode(), prefix.encode()[:-1] + b"0")  # "0" follows "/"


class EtcdClient:
    """Every verb raises BackendUnavailable, PermissionDenied, LeaseLost (no such lease) or
    BackendError. All may be called from any thread."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Does no I/O."""
        self.settings = settings
        self.moved: Callable[[], None] = lambda: None
        """Called when the client has turned to another member."""
        self._mutex = threading.Lock()
        self._position = 0
        self._link: Link | None = None
        self._token: str | None = None  # "": the cluster knows no users

    def close(self) -> None:
        """Close the connection, and end the watches on it; a later verb opens it again."""
        with self._mutex:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    # -- keys --------------------------------------------------------------------------

    def read(self, *spans: Span, keys_only: bool = False) -> tuple[int, list[list[Entry]]]:
        """Return the revision, and the entries of each span by key, all of that revision."""
        rpc = library.load().rpc
        ranges = [
            rpc.RangeRequest(key=span.start, range_end=span.end, keys_only=keys_only)
            for span in spans
        ]
        if len(ranges) == 1:
            answer = self.call(lambda link, how: link.kv.Range(ranges[0], **how))
            return answer.header.revision, [_entries(answer.kvs)]
        request = rpc.TxnRequest(success=[rpc.RequestOp(request_range=one) for one in ranges])
        answer = self.call(lambda link, how: link.kv.Txn(request, **how))
        found = [_entries(one.response_range.kvs) for one in answer.responses]
        return answer.header.revision, found

    def commit(self, compares: Sequence[Any], operations: Sequence[Any]) -> int:
        """Do all of it if every comparison holds; return the revision, 0 for not done."""
        request = library.load().rpc.TxnRequest(compare=compares, success=operations)
        answer = self.call(lambda link, how: link.kv.Txn(request, **how), write=True)
        return int(answer.header.revision) if answer.succeeded else 0

    # -- leases ------------------------------------------------------------------------

    def grant(self, ttl: int) -> tuple[int, int]:
        """Make a lease; return its id and the seconds that it was given."""
        request = library.load().rpc.LeaseGrantRequest(TTL=ttl)
        # Sent twice, it leaves a lease behind that nothing hangs on and that expires.
        answer = self.call(lambda link, how: link.lease.LeaseGrant(request, **how))
        return answer.ID, answer.TTL

    def keep_alive(self, lease: int) -> bool:
        """Start its time anew, which writes nothing; tell whether it was still there."""
        request = library.load().rpc.LeaseKeepAliveRequest(ID=lease)

        def send(link: Link, how: dict[str, Any]) -> Any:
            return next(link.lease.LeaseKeepAlive(iter([request]), **how), None)

        answer = self.call(send)
        return answer is not None and answer.TTL > 0

    def attached(self, lease: int) -> frozenset[str] | None:
        """Return the keys on a lease; ``None`` when there is no such lease."""
        request = library.load().rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = self.call(lambda link, how: link.lease.LeaseTimeToLive(request, **how))
        if answer.TTL <= 0:
            return None
        return frozenset(key.decode(errors="replace") for key in answer.keys)

    def revoke(self, lease: int) -> None:
        """End a lease and delete what hangs on it; LeaseLost when there is none."""
        request = library.load().rpc.LeaseRevokeRequest(ID=lease)
        self.call(lambda link, how: link.lease.LeaseRevoke(request, **how))

    # -- sending -----------------------------------------------------------------------

    def call(self, send: Send, *, write: bool = False) -> Any:
        """Send a request; to each member in turn until one answers, within the time limit."""
        grpc = library.load().grpc
        count = len(self.settings.endpoints)
        deadline = time.monotonic() + self.settings.timeout
        renewed = False
        tried = 1
        while True:
            left = deadline - time.monotonic()
            share = min(left, self._share(tried, write=write))
            link = self._borrow()
            try:
                return send(link, {"timeout": share, "metadata": self.metadata(link)})
            except grpc.RpcError as error:
                failure = Failure.of(error)
                if not renewed and self.settings.user and failure.wants_token:
                    self.forget_token()
                    renewed = True
                    continue
                if failure.elsewhere:
                    self._leave(link, failure)
                tries = max(count, _TRIES) if failure.late else count
                over = tried >= tries or deadline - time.monotonic() < _LEAST
                if over or not failure.elsewhere or (write and not failure.unsent):
                    raise failure.error(str(link.endpoint)) from error
                tried += 1
            except ValueError as error:
                # gRPC's word for a channel that another thread has closed meanwhile.
                raise BackendUnavailable(f"etcd at {link.endpoint}: {error}") from error
            finally:
                self._give_back(link)

    def _share(self, tried: int, *, write: bool) -> float:
        """Return the seconds that one member gets.

        A request that is under way when etcd loses its leader hangs, although the next one
        is answered as soon as there is another: so a read waits shortly at first.
        """
        limit = self.settings.timeout
        if write:
            return limit if len(self.settings.endpoints) == 1 else limit / 2
        return limit / 4 if tried < _TRIES else limit

    def link(self) -> Link:
        """Return the connection in use; made, but not connected, when there is none."""
        with self._mutex:
            return self._present()

    def _present(self) -> Link:
        if self._link is None:
            endpoints = self.settings.endpoints
            endpoint = endpoints[self._position % len(endpoints)]
            self._link = Link(library.load(), self.settings, endpoint)
        return self._link

    def _borrow(self) -> Link:
        with self._mutex:
            link = self._present()
            link.users += 1
            return link

    def _give_back(self, link: Link) -> None:
        with self._mutex:
            link.users -= 1
            over = link.retired and not link.users
        if over:
            link.close()

    def _leave(self, link: Link, failure: Failure) -> None:
        """Turn to the next member; where there is no other, to a new connection to this one."""
        if len(self.settings.endpoints) == 1 and not failure.late:
            return  # gRPC connects again by itself
        with self._mutex:
            if self._link is not link:
                return  # another thread was faster
            # Not closed yet: other threads may still get their answers over it.
            self._link, link.retired = None, True
            self._position += 1
        self.moved()

    # -- who we are --------------------------------------------------------------------

    def metadata(self, link: Link) -> tuple[tuple[str, str], ...]:
        """Return what goes with each request; asks for a token where one is needed."""
        if not self.settings.user:
            return (_HAS_LEADER,)
        with self._mutex:
            token = self._token
        if token is None:
            token = self._authenticate(link)
            with self._mutex:
                self._token = token
        # A cluster without users takes a token for a wrong one, whatever it is.
        return (_HAS_LEADER, ("token", token)) if token else (_HAS_LEADER,)

    def forget_token(self) -> None:
        """Ask for another one before the next request."""
        with self._mutex:
            self._token = None

    def _authenticate(self, link: Link) -> str:
        found = library.load()
        request = found.rpc.AuthenticateRequest(name=self.settings.user, password=self._password())
        timeout = self.settings.timeout / min(2, len(self.settings.endpoints))
        try:
            answer = link.auth.Authenticate(request, timeout=timeout, metadata=(_HAS_LEADER,))
        except found.grpc.RpcError as error:
            failure = Failure.of(error)
            if "authentication is not enabled" in failure.text:
                return ""
            raise
        return str(answer.token)

    def _password(self) -> str:
        path = self.settings.password_file
        if not path:
            return self.settings.password
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BackendUnavailable(f"etcd: password_file {path}: {error}") from error


# -- what transactions are made of ---------------------------------------------------------


def created(key: str, revision: int) -> Any:
    """Compare: the key was created at that revision; 0: it does not exist."""
    rpc = library.load().rpc
    return rpc.Compare(
        key=key.encode(), target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL,
        create_revision=revision,
    )  # fmt: skip


def modified(key: str, revision: int) -> Any:
    """Compare: the key was last written at that revision; 0: it does not exist."""
    rpc = library.load().rpc
    return rpc.Compare(
        key=key.encode(), target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=revision
    )


def untouched(span: Span, since: int) -> Any:
    """Compare: nothing in the span was written after that revision."""
    rpc = library.load().rpc
    return rpc.Compare(
        key=span.start, range_end=span.end, target=rpc.Compare.MOD, result=rpc.Compare.LESS,
        mod_revision=since + 1,
    )  # fmt: skip


def put(key: str, value: bytes, *, lease: int = 0) -> Any:
    """Operation: write the key, on that lease."""
    rpc = library.load().rpc
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=value, lease=lease))


def replace_value(key: str, value: bytes) -> Any:
    """Operation: write a key that exists, and leave it on its lease."""
    rpc = library.load().rpc
    return rpc.RequestOp(
        request_put=rpc.PutRequest(key=key.encode(), value=value, ignore_lease=True)
    )


def delete(key: str) -> Any:
    """Operation: delete the key."""
    rpc = library.load().rpc
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key.encode()))


def _entries(found: Any) -> list[Entry]:
    return [entry_of(kv) for kv in found]


def entry_of(kv: Any) -> Entry:
    """Return a key as etcd tells it; one that is not UTF-8 is nobody's of ours."""
    return Entry(
        kv.key.decode(errors="replace"), kv.value, kv.create_revision, kv.mod_revision, kv.lease
    )
