"""Effects in order, one at a time an election, on a few threads that all share.

Two lanes an election: what goes to the backend, and hooks. A demotion must not wait
for a registry, and a registry must not wait for a slow promotion.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)
Work = Callable[[], object]


class Lane:
    """Runs what it is given one after another."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting: deque[Work] = deque()
        self._lock = threading.Lock()
        self._busy = False

    def put(self, work: Work) -> None:
        """Add work; returns at once."""
        with self._lock:
            self._waiting.append(work)
            if self._busy:
                return
            self._busy = True
        self._pool.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                work = self._waiting.popleft()
            try:
                work()
            except Exception:  # work reports its own errors: this one is a bug of ours
                log.exception("an effect failed in an unforeseen way")
