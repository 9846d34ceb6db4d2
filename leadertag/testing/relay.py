"""Stands between a client and a server, so that one client alone can be cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes both ways, over TCP on a free port of 127.0.0.1.

    While it is cut, every connection through it is ended and every new one too, at once.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen at once; ``host`` and ``port`` are the server's, reached when somebody calls."""
        self._target = host, port
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._speaks = threading.Event()
        self._speaks.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, name="relay", daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Let nothing through while the block runs."""
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
        """Pass nothing on while the block runs, and end nothing: a server that hangs."""
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
        """End it for good, with all that goes through it."""
        self._speaks.set()
        with self.cut(), suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connected()
            with self._mutex:
                if server is None or self._cut:
                    client.close()
                    if server is not None:
                        server.close()
                    continue
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                pump = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                pump.start()

    def _connected(self) -> socket.socket | None:
        if self._cut:
            return None
        try:
            return socket.create_connection(self._target, timeout=10.0)
        except OSError:
            return None  # the client sees its connection end, as if the server had done it

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(None)
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
