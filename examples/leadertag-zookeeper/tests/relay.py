"""Stands between a client and the server, so that one client alone can be cut off."""

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
        self._speaks = threading.Event()
        self._speaks.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, name="relay", daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """End every connection, and every new one at once, while the block runs."""
        with self._mutex:
            self._cut = True
        self.break_all()
        try:
            yield
        finally:
            with self._mutex:
                self._cut = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Pass nothing on while the block runs, without ending anything: a server that hangs."""
        self._speaks.clear()
        try:
            yield
        finally:
            self._speaks.set()

    def break_all(self) -> None:
        """End every connection; new ones are let through."""
        with self._mutex:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._speaks.set()
        self.break_all()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = None if self._cut else socket.create_connection(self._target)
            except OSError:
                server = None
            if server is None:
                client.close()
                continue
            with self._mutex:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._speaks.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._mutex:
            self._open.discard(source)
        source.close()
