"""Records every revision of leadertag's keys in an etcd cluster, from each member's own watch.

What a revision amounts to is :mod:`tests.chaos.etcd_recorder`'s; here it is followed without
network namespaces, and waited for.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.chaos.etcd_recorder import PREFIX, Keys
from tests.chaos.evidence import Line, Writer
from tests.tools.etcd import CLIENT_PORT, EtcdMember

_SILENCE = 5.0
"""Seconds without news after which a watch is made anew: its member may hang."""
_PAUSE = 0.05


class _Kept(Writer):
    """Evidence that is kept in memory as well, and whose coming can be awaited."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lines: list[Line] = []
        self.changed = threading.Condition()

    def write(self, kind: str, t: float | None = None, **fields: Any) -> float:
        at = super().write(kind, t, **fields)
        with self.changed:
            self.lines.append({"t": at, "kind": kind, **fields})
            self.changed.notify_all()
        return at


class EtcdRecorder:
    """A thread a member; `with` starts and stops them. Nothing is missed, and nothing is told
    twice: each watch goes on from the revision that was seen last."""

    def __init__(self, members: Sequence[EtcdMember], out: Path) -> None:
        self._members = members
        self._kept = _Kept(out)
        self._keys = Keys(self._kept)
        self._stopping = threading.Event()
        self._mutex = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._threads = [
            threading.Thread(target=self._run, args=(one,), name=f"record {one.name}", daemon=True)
            for one in members
        ]

    @property
    def lines(self) -> list[Line]:
        """All so far: kinds "registry" (instances) and "lock" (held, record), with index."""
        with self._kept.changed:
            return list(self._kept.lines)

    def last(self, kind: str) -> Line | None:
        """The newest line of a kind."""
        return next((line for line in reversed(self.lines) if line["kind"] == kind), None)

    def wait_for(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait until it holds; looked at whenever something was recorded."""
        deadline = time.monotonic() + timeout
        with self._kept.changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = self._kept.lines[-2:]
                    raise AssertionError(f"not within {timeout:g} s: {what}; last: {seen}")
                self._kept.changed.wait(min(left, 0.25))

    def catch_up(self, timeout: float = 20.0) -> None:
        """Wait until everything that the cluster has now was recorded."""
        newest = self._newest()
        self.wait_for(lambda: self._keys.revision >= newest, timeout, f"revision {newest} recorded")

    def _newest(self) -> int:
        """The cluster's revision, as any member with a quorum says: leadertag alone writes."""
        for member in self._members:
            with suppress(OSError):
                return member.revision()
        raise AssertionError("no member of the cluster answers")

    def __enter__(self) -> EtcdRecorder:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            while thread.is_alive():
                self._abort()  # again: a watch may have begun in between
                thread.join(0.01)
        self._kept.close()

    def _abort(self) -> None:
        with self._mutex:
            for connection in self._open:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(2)

    def _run(self, member: EtcdMember) -> None:
        while not self._stopping.is_set():
            # ValueError, AttributeError: half a line, or a connection closed under the reader.
            with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
                for result in self._results(member):
                    self._take(result, member.name)
            self._stopping.wait(_PAUSE)

    def _results(self, member: EtcdMember) -> Iterator[Mapping[str, Any]]:
        """What one watch tells, until it breaks or falls silent."""
        create = {**_span(), "start_revision": self._keys.revision + 1}
        connection = http.client.HTTPConnection(member.ip, CLIENT_PORT, timeout=_SILENCE)
        with self._mutex:
            self._open.add(connection)
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
            response = connection.getresponse()
            while line := response.readline():
                yield json.loads(line).get("result", {})
        finally:
            with self._mutex:
                self._open.discard(connection)
            connection.close()

    def _take(self, result: Mapping[str, Any], by: str) -> None:
        by_revision: dict[int, list[Mapping[str, Any]]] = {}
        for event in result.get("events", ()):
            by_revision.setdefault(int(event["kv"]["mod_revision"]), []).append(event)
        for revision, events in sorted(by_revision.items()):
            self._keys.take(revision, by, events)


def _span() -> dict[str, str]:
    return {"key": _encode(PREFIX), "range_end": _encode(PREFIX[:-1] + "0")}  # after the slash


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
