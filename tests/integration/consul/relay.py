"""Stands between a client and an agent, so that one client alone can be cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes both ways. While it is cut, it accepts nobody and holds nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, name="relay", daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """End every connection, and every new one at once, while the block runs."""
        with self._mutex:
            self._cut = True
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._mutex:
                self._cut = False

    def close(self) -> None:
        """End it for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._mutex:
                cut = self._cut
            if cut:
                client.close()
                continue
            agent = socket.create_connection(self._target)
            with self._mutex:
                self._open |= {client, agent}
            for source, sink in ((client, agent), (agent, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._mutex:
            self._open.discard(source)
        source.close()
