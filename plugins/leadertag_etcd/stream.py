"""The watch stream of a process: one, for all its watches, while there are any.

A thread reads it and deals out what comes. Nothing is decided here: when the stream breaks,
every watch is told so, reads anew wherever the client finds a member that answers, and
subscribes again from the revision that it has read.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leadertag.errors import BackendError, BackendUnavailable
from leadertag_etcd import library
from leadertag_etcd.client import Entry, EtcdClient, Span, entry_of
from leadertag_etcd.failures import Failure


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was written, or deleted (``entry`` is ``None``)."""

    key: str
    entry: Entry | None


class Anew(BackendUnavailable):
    """No failure, but what happened meanwhile cannot be told: it has to be read."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The watch has ended: whatever it was to tell from now on has to be read anew."""

    error: BackendError


Item = tuple[Change, ...] | Broken


class Subscription:
    """What one watch hears of one span. Items are put by the stream's thread."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self.inbox = inbox
        self.number: int | None = None
        """The stream's number for it, once etcd has given it."""

    def tell(self, item: Item) -> None:
        """Hand over changes of one revision, or the end."""
        self.inbox.put((self, item))


class WatchStream:
    """Subscribe and unsubscribe from any thread."""

    def __init__(self, client: EtcdClient) -> None:
        """Does no I/O."""
        self._client = client
        self._mutex = threading.Lock()
        self._run: _Run | None = None

    def subscribe(self, span: Span, since: int, inbox: queue.SimpleQueue[Any]) -> Subscription:
        """Have everything told that happens in ``span`` from that revision on."""
        rpc = library.load().rpc
        request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=span.start, range_end=span.end, start_revision=since
            )
        )
        subscription = Subscription(inbox)
        with self._mutex:
            if self._run is None or not self._run.add(subscription, request):
                self._run = _Run(self._client)
                self._run.add(subscription, request)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Have nothing told any more; the stream ends with its last subscription."""
        with self._mutex:
            if self._run is not None and self._run.remove(subscription):
                self._run = None

    def moved(self) -> None:
        """End a stream that is not on the client's present connection."""
        present = self._client.link()
        with self._mutex:
            run = self._run
            if run is None or run.link is present:
                return
            self._run = None
        run.move()


class _Run:
    """One stream from its beginning to its end."""

    def __init__(self, client: EtcdClient) -> None:
        found = library.load()
        self._client = client
        self._rpc, self._grpc = found.rpc, found.grpc
        self._mutex = threading.Lock()
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: deque[Subscription] = deque()
        """Asked for, in the order in which etcd will confirm them."""
        self._numbered: dict[int, Subscription] = {}
        self._dropped: set[Subscription] = set()
        self._over = False
        self._moved = False
        self.link = link = client.link()
        self._where = str(link.endpoint)
        try:
            self._call = link.watch.Watch(
                iter(self._requests.get, None), metadata=client.metadata(link)
            )
        except self._grpc.RpcError as error:  # the token could not be had
            raise Failure.of(error).error(self._where) from error
        except ValueError as error:  # the channel was closed just now
            raise BackendUnavailable(f"etcd at {self._where}: {error}") from error
        threading.Thread(target=self._read, name="etcd watch", daemon=True).start()

    def add(self, subscription: Subscription, request: Any) -> bool:
        """Ask for it; ``False`` when this stream is over."""
        with self._mutex:
            if self._over:
                return False
            self._waiting.append(subscription)
            self._requests.put(request)
            return True

    def remove(self, subscription: Subscription) -> bool:
        """Forget it; tell whether that ended the stream."""
        with self._mutex:
            number = subscription.number
            if number is not None:
                # Numbers are the stream's own: one of an earlier stream is another's here.
                if self._numbered.get(number) is subscription:
                    self._drop(number)
            elif subscription in self._waiting:
                self._dropped.add(subscription)
            live = len(self._numbered) + len(self._waiting) - len(self._dropped)
            if live or self._over:
                return False
            self._over = True
        self.cancel()
        return True

    def move(self) -> None:
        """End it because the client has turned to another member."""
        self._moved = True
        self.cancel()

    def cancel(self) -> None:
        """End it; its thread then tells those that are left."""
        self._requests.put(None)
        self._call.cancel()

    def _drop(self, number: int) -> None:
        if self._numbered.pop(number, None) is not None:
            cancel = self._rpc.WatchCancelRequest(watch_id=number)
            self._requests.put(self._rpc.WatchRequest(cancel_request=cancel))

    def _read(self) -> None:
        error: BackendError = BackendUnavailable(f"etcd at {self._where}: the watch has ended")
        try:
            for response in self._responses():
                self._take(response)
        except BackendError as failure:
            error = failure
        finally:  # whatever it was: nobody may be left waiting
            self._finish(error)

    def _finish(self, error: BackendError) -> None:
        with self._mutex:
            self._over = True
            left = [*self._numbered.values(), *self._waiting]
            left = [one for one in left if one not in self._dropped]
            self._numbered.clear()
            self._waiting.clear()
        self._requests.put(None)
        for subscription in left:
            subscription.tell(Broken(error))

    def _responses(self) -> Iterator[Any]:
        try:
            yield from self._call
        except self._grpc.RpcError as error:
            failure = Failure.of(error)
            if failure.wants_token:
                self._client.forget_token()
            if self._moved:
                raise Anew(f"etcd at {self._where}: left for another member") from error
            raise failure.error(self._where) from error

    def _take(self, response: Any) -> None:
        subscription: Subscription | None
        with self._mutex:
            if response.created:
                subscription = self._waiting.popleft()
                if not response.canceled:
                    subscription.number = response.watch_id
                    self._numbered[response.watch_id] = subscription
                if subscription in self._dropped:
                    self._dropped.discard(subscription)
                    self._drop(response.watch_id)
                    return
            elif response.canceled:
                subscription = self._numbered.pop(response.watch_id, None)
            else:
                subscription = self._numbered.get(response.watch_id)
        if subscription is None:
            return
        if response.canceled:
            subscription.tell(Broken(self._canceled(response)))
        elif response.events:
            subscription.tell(tuple(_change(event) for event in response.events))

    def _canceled(self, response: Any) -> BackendError:
        if response.compact_revision:
            # The revisions in between are gone.
            return Anew(f"etcd at {self._where}: compacted to {response.compact_revision}")
        # As one server's error told to another: "rpc error: code = … desc = …".
        reason = " ".join(response.cancel_reason.split()).rpartition(" desc = ")[2]
        failure = Failure("UNAVAILABLE", reason or "the watch was cancelled")
        if failure.wants_token:
            self._client.forget_token()
        return failure.error(self._where)


def _change(event: Any) -> Change:
    entry = entry_of(event.kv)
    return Change(entry.key, None if event.type == event.DELETE else entry)
