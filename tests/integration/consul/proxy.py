"""A proxy in front of a real agent that can do to its answers what networks and caches do.

Without a rule it passes everything on. A rule picks requests by method and path and does
something else with them; the agent behind it is never touched, so what the other members
and the tests see of the cluster is the truth.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATIENCE = 120.0  # seconds that the agent may take: blocking reads are its longest
_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")


@dataclass(frozen=True)
class Reply:
    """An answer as it is to be sent; its length is declared as it is unless told otherwise."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header, whatever its case; "" for none."""
        return next((v for key, v in self.headers if key.lower() == name.lower()), "")

    def having(self, name: str, value: str | None) -> Reply:
        """The same with another value of a header, or without it."""
        rest = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=rest if value is None else (*rest, (name, value)))

    def head(self, length: int | None = None, *, close: bool = False) -> bytes:
        """Status line and headers, up to and with the empty line."""
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body) if length is None else length}")
        lines += ["Connection: close"] if close else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass
class Exchange:
    """One request under a rule: what was asked, and the ways to answer it."""

    proxy: Proxy
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    write: Callable[[bytes], object]
    over: threading.Event
    """Set when the rule has ended: nothing endless goes on after that."""
    close: bool = False
    """Whether the connection is closed after this."""

    @property
    def path(self) -> str:
        """The path alone."""
        return urlsplit(self.target).path

    @property
    def index(self) -> int:
        """The index of a blocking read, 0 for any other request."""
        query = parse_qs(urlsplit(self.target).query)
        return int(query.get("index", ["0"])[0])

    def forward(self, target: str = "") -> Reply:
        """Ask the agent."""
        return self.proxy.ask(self.method, target or self.target, self.headers, self.body)

    def send(self, reply: Reply) -> None:
        """Answer in order."""
        self.write(reply.head() + reply.body)

    def drop(self) -> None:
        """Close the connection without another word."""
        self.close = True


Action = Callable[[Exchange], None]


@dataclass(frozen=True)
class Rule:
    """What is done with which requests: those whose ``METHOD /path`` fits."""

    action: Action
    requests: str = r".*"

    def fits(self, exchange: Exchange) -> bool:
        """Whether it is about that request."""
        return bool(re.fullmatch(self.requests, f"{exchange.method} {exchange.path}"))


@dataclass
class _Ruling:
    """A rule that stands."""

    rule: Rule
    over: threading.Event = field(default_factory=threading.Event)
    hits: int = 0


class Proxy:
    """Listens on a loopback port of its own until it is closed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._mutex = threading.Lock()
        self._ruling: _Ruling | None = None
        self._open: set[socket.socket] = set()
        self.first: dict[str, Reply] = {}
        """The first answer to each path since the last `forget`: what a stale cache has."""
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()

    def close(self) -> None:
        """End it, with all its connections."""
        self._server.shutdown()
        self._server.server_close()
        self._end_connections()

    @contextmanager
    def ruled(self, rule: Rule) -> Iterator[_Ruling]:
        """Apply a rule while the block runs; reads that were waiting are ended first."""
        ruling = _Ruling(rule)
        with self._mutex:
            self._ruling = ruling
        self._end_connections()
        try:
            yield ruling
        finally:
            with self._mutex:
                self._ruling = None
            ruling.over.set()
            self._end_connections()

    def forget(self) -> None:
        """Forget the answers that `first` has."""
        self.first.clear()

    # -- what the handlers use -------------------------------------------------------------

    def serve(self, exchange: Exchange) -> None:
        """Answer one request, by the rule if there is one for it."""
        with self._mutex:
            ruling = self._ruling
            if ruling is not None and ruling.rule.fits(exchange):
                ruling.hits += 1
            else:
                ruling = None
        if ruling is not None:
            exchange.over = ruling.over
            ruling.rule.action(exchange)
            return
        reply = exchange.forward()
        if exchange.method == "GET":
            self.first.setdefault(exchange.path, reply)
        exchange.send(reply)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Ask the agent over a connection of its own."""
        connection = http.client.HTTPConnection(*self._target, timeout=PATIENCE)
        try:
            passed = {k: v for k, v in headers.items() if k.lower() not in (*_HOP, "host")}
            connection.request(method, target, body or None, passed)
            if connection.sock is not None:
                self.watch(connection.sock)
            answer = connection.getresponse()
            kept = tuple((k, v) for k, v in answer.getheaders() if k.lower() not in _HOP)
            return Reply(answer.status, kept, answer.read())
        finally:
            if connection.sock is not None:
                self.unwatch(connection.sock)
            connection.close()

    def watch(self, end: socket.socket) -> None:
        """Have a connection ended with the others."""
        with self._mutex:
            self._open.add(end)

    def unwatch(self, end: socket.socket) -> None:
        """It has ended."""
        with self._mutex:
            self._open.discard(end)

    def _end_connections(self) -> None:
        with self._mutex:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is what these tests are about: nothing to report."""


def _handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            proxy.watch(self.connection)

        def finish(self) -> None:
            proxy.unwatch(self.connection)
            with suppress(OSError):
                super().finish()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            exchange = Exchange(
                proxy, self.command, self.path, dict(self.headers.items()), body,
                self.wfile.write, threading.Event(),
            )  # fmt: skip
            try:
                proxy.serve(exchange)
            except (OSError, http.client.HTTPException):
                exchange.close = True
            self.close_connection = self.close_connection or exchange.close

        do_GET = do_PUT = do_POST = do_DELETE = _serve

    return Handler


# -- what can be done to an answer -----------------------------------------------------------


def answer(status: int, body: bytes, kind: str = "text/plain", **headers: str) -> Action:
    """Answer that, and do not ask the agent."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda exchange: exchange.send(Reply(status, (("Content-Type", kind), *named), body))


def in_turn(*actions: Action) -> Action:
    """Do one after the other, request by request, and begin anew."""
    turns = itertools.cycle(actions)

    def act(exchange: Exchange) -> None:
        next(turns)(exchange)

    return act


def cut(exchange: Exchange) -> None:
    """Half of the body, and the end of the connection."""
    reply = exchange.forward()
    exchange.write(reply.head() + reply.body[: len(reply.body) // 2])
    exchange.drop()


def too_long(exchange: Exchange) -> None:
    """Declares more than there is, and leaves the connection open for a while."""
    reply = exchange.forward()
    exchange.write(reply.head(len(reply.body) + 100) + reply.body)
    exchange.over.wait(2.0)
    exchange.drop()


def too_short(exchange: Exchange) -> None:
    """Declares half of what it sends: the rest stands where the next answer should begin."""
    reply = exchange.forward()
    exchange.write(reply.head(len(reply.body) // 2) + reply.body)


def trickle_body(exchange: Exchange) -> None:
    """The body byte by byte, without an end."""
    exchange.write(Reply(body=b"").head(1 << 20))
    _trickle(exchange, b" ")


def trickle_headers(exchange: Exchange) -> None:
    """Headers, without an end."""
    exchange.write(b"HTTP/1.1 200 OK\r\n")
    _trickle(exchange, b"X-Wait: yes\r\n")


def _trickle(exchange: Exchange, piece: bytes) -> None:
    while not exchange.over.wait(0.05):
        exchange.write(piece)
    exchange.drop()


def delayed(seconds: float) -> Action:
    """Ask the agent, and answer later."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.over.wait(seconds)
        exchange.send(reply)

    return act


def lose(exchange: Exchange) -> None:
    """Have the agent do it, and lose the answer."""
    exchange.forward()
    exchange.drop()


def refuse(exchange: Exchange) -> None:
    """Close the connection before the agent was asked."""
    exchange.drop()


def twice(exchange: Exchange) -> None:
    """Have the agent do it twice; the second answer counts."""
    exchange.forward()
    exchange.send(exchange.forward())


def indexed(change: Callable[[int, int], str | None]) -> Action:
    """Answer blocking reads at once, with an index made of the true one and of the asked one."""

    def act(exchange: Exchange) -> None:
        asked = exchange.index
        reply = exchange.forward(re.sub(r"(index|wait)=[^&]*&?", "", exchange.target))
        true = int(reply.header("X-Consul-Index") or 0)
        exchange.send(reply.having("X-Consul-Index", change(true, asked)))

    return act


def stale(exchange: Exchange) -> None:
    """Say again what was said first, with its index of then."""
    exchange.send(exchange.proxy.first.get(exchange.path) or exchange.forward())


def without_node(node: str) -> Action:
    """Leave everything of that node out of lists, and its services out of the node."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        data = json.loads(reply.body) if reply.status == 200 and reply.body else None
        if data is None:
            exchange.send(reply)
            return
        if isinstance(data, list):
            data = [one for one in data if _node_of(one) != node]
        elif isinstance(data, dict) and "Services" in data:
            data = {**data, "Services": {}}
        exchange.send(replace(reply, body=json.dumps(data).encode()))

    return act


def _node_of(entry: Mapping[str, Any]) -> str:
    node = entry["Node"]
    return str(node["Node"] if isinstance(node, dict) else node)
