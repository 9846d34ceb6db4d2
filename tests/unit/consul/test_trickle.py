"""An answer that trickles ends at the time-out, not when it pleases the other side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from leadertag.errors import BackendUnavailable
from leadertag_consul.address import parse
from leadertag_consul.settings import Tls
from leadertag_consul.transport import Transport

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
STARTS = {
    "status": (b"", b"H"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (HEAD, b"x"),
    "body until the end": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
}
"""How an answer may begin, and what follows again and again."""


class Trickle:
    """A server that sends a little whenever it may, until it is closed."""

    def __init__(self, head: bytes, byte: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._head, self._byte = head, byte
        self._stop = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._socket.accept()
            with client:
                client.recv(65536)
                client.sendall(self._head)
                while not self._stop.wait(0.02):
                    client.sendall(self._byte)

    def close(self) -> None:
        self._stop.set()
        self._socket.close()


@pytest.fixture
def trickle(request: pytest.FixtureRequest) -> Iterator[Trickle]:
    server = Trickle(*STARTS[request.param])
    yield server
    server.close()


@pytest.mark.parametrize("trickle", sorted(STARTS), indirect=True)
def test_a_trickling_answer_is_no_answer_in_time(trickle: Trickle) -> None:
    """However it trickles, the whole of it has its time and no more."""
    address = parse(f"127.0.0.1:{trickle.port}", "here")
    transport = Transport(address, Tls(), timeout=0.3, size=1)
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        transport.request("GET", "/v1/agent/self", {}, None, 0.0)


def test_a_cut_body_is_no_answer() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(HEAD + b"{}")

    threading.Thread(target=serve, daemon=True).start()
    address = parse(f"127.0.0.1:{server.getsockname()[1]}", "here")
    with pytest.raises(BackendUnavailable, match="IncompleteRead"):
        Transport(address, Tls(), timeout=5, size=1).request("GET", "/", {}, None, 0.0)
    server.close()
