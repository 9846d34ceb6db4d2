"""The predecessor's own election lock, taken the way Go's ``api.Lock`` takes it.

While a cluster is changed over node by node, its remaining instances elect by
``check-<query>-<service>``: whoever holds that key may tag. Taking it as well keeps both
generations from electing at once. See ``Lock`` in Consul's ``api/lock.go``.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from leadertag.errors import BackendError
from leadertag_consul.client import ConsulClient
from leadertag_consul.kv import Entry, entry_of, operation

PREDECESSOR = "consul-master-election-tagger"
LOCK_FLAG = 0x2DDCCBC058A50C18
"""Marks keys of api.Lock; a key with other flags is used for something else (ErrLockConflict)."""
_TTL = "15s"  # api.DefaultLockSessionTTL
_DELAY = "15s"  # the default of sessions: what the predecessor is told to wait after a crash
_RETRY = 0.1  # seconds between attempts during a lock delay, which no blocking read ends


class PredecessorLock(AbstractContextManager[bool]):
    """Entering takes the lock (True), or finds it taken or foreign (False).

    The predecessor holds it for the milliseconds of one run: entering waits for that, at
    most the client's time-out. A session of its own keeps it; the provider renews it.
    """

    def __init__(self, client: ConsulClient, key: str, open_guards: set[PredecessorLock]) -> None:
        self._client = client
        self._key = key
        self._open = open_guards
        self._session = ""

    def __enter__(self) -> bool:
        """Take the lock; raises BackendError when it cannot be known."""
        deadline = time.monotonic() + self._client.settings.timeout
        entry = self._entry()
        if entry is not None and entry.flags != LOCK_FLAG:
            return False  # nothing of ours, nor of the predecessor: no session, no write
        self._session = self._create()
        try:
            taken = self._take(entry, deadline)
        except BaseException:
            self._give_back()
            raise
        if taken:
            self._open.add(self)
        else:
            self._give_back()
        return taken

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free it: first the key, then the session, so that no lock delay begins."""
        self._open.discard(self)
        if self._session:
            self._give_back()

    def renew(self) -> None:
        """Keep it for longer than the session's TTL. A lost guard is no lost lock."""
        session = self._session
        if session:
            with suppress(BackendError):
                self._client.verb(lambda consul: consul.session.renew(session))

    def _create(self) -> str:
        body = {
            "Name": "leadertag guard",
            "TTL": _TTL,
            "LockDelay": _DELAY,
            "Behavior": "release",
            "NodeChecks": ["serfHealth"],
        }
        return str(self._client.put("/v1/session/create", body).data["ID"])

    def _take(self, entry: Entry | None, deadline: float) -> bool:
        pause = threading.Event()
        while True:
            if entry is not None and entry.flags != LOCK_FLAG:
                return False
            if (entry is None or not entry.holder) and self._acquire(entry):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if entry is not None and entry.holder:
                entry = self._entry(entry.index, left)
            else:  # free, and still refused: a lock delay, or somebody was faster
                pause.wait(min(left, _RETRY))
                entry = self._entry()

    def _acquire(self, entry: Entry | None) -> bool:
        guard = (
            operation("check-not-exists", self._key)
            if entry is None
            else operation("check-index", self._key, Index=entry.index)
        )
        lock = operation("lock", self._key, value=b"", Session=self._session, Flags=LOCK_FLAG)
        return self._client.txn([guard, lock]).committed

    def _entry(self, index: int = 0, wait: float = 0.0) -> Entry | None:
        params: dict[str, object] = {"consistent": ""}
        if index:
            params |= {"index": index, "wait": f"{max(1, int(wait * 1000))}ms"}
        answer = self._client.get(f"/v1/kv/{self._key}", params)
        return entry_of(answer.data[0]) if answer.data else None

    def _give_back(self) -> None:
        session, self._session = self._session, ""
        unlock = operation("unlock", self._key, value=b"", Session=session, Flags=LOCK_FLAG)
        # What fails here expires with the session; the lock's holder must not fail for it.
        with suppress(BackendError):
            self._client.txn([unlock])  # refused where it is not held: then nothing changes
        with suppress(BackendError):
            self._client.verb(lambda consul: consul.session.destroy(session))
