"""The client library: imported late, without requests, and never reading the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, PermissionDenied
from leadertag_consul.address import Address
from leadertag_consul.client import ConsulClient
from leadertag_consul.files import Token
from leadertag_consul.kv import operation
from leadertag_consul.settings import ConsulSettings, read
from leadertag_consul.transport import RawAnswer, Transport


def run(code: str, environ: Mapping[str, str] | None = None) -> str:
    argv = [sys.executable, "-c", code]
    env = {**os.environ, **(environ or {})}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_backend_imports_no_client() -> None:
    code = (
        "import sys, leadertag_consul\n"
        "[getattr(leadertag_consul, name) for name in leadertag_consul.__all__]\n"
        "print([m for m in ('consul', 'requests') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_using_it_imports_no_requests() -> None:
    code = (
        "import sys; from leadertag_consul import library; consul = library.load()\n"
        "print([m for m in ('requests', 'urllib3') if m in sys.modules])\n"
    )
    assert run(code) == "[]"


def test_others_still_get_their_requests() -> None:
    """The library's own transport, and whoever imports requests afterwards."""
    code = (
        "from leadertag_consul import library; consul = library.load()\n"
        "client = consul.Consul(); import requests, requests.adapters, sys\n"
        "assert isinstance(client.http.session, requests.Session), client.http.session\n"
        "assert sys.modules['requests'].__file__.endswith('__init__.py')\n"
        "print('fine')"
    )
    assert run(code) == "fine"


def test_requests_that_is_there_already_stays() -> None:
    code = (
        "import requests; from leadertag_consul import library; library.load()\n"
        "import consul.std, sys; print(consul.std.requests is requests is sys.modules['requests'])"
    )
    assert run(code) == "True"


def test_the_library_does_not_read_the_environment() -> None:
    code = (
        "from leadertag_consul import library\n"
        "consul = library.connect(lambda *a: (200, {}, b'{}'), '')\n"
        "print(consul.token, consul.dc, consul.agent.self())"
    )
    hostile = {
        "CONSUL_HTTP_ADDR": "[::1]:8500", "CONSUL_HTTP_TOKEN": "wrong",
        "CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_SSL_VERIFY": "nonsense",
    }  # fmt: skip
    assert run(code, hostile) == "None None {}"


class FakeTransport:
    """Answers without a network."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        import http.client

        self.sent: list[tuple[str, str, dict[str, str], bytes | None]] = []
        found = http.client.HTTPMessage()
        for name, value in headers.items():
            found[name.replace("_", "-")] = value
        self._answer = RawAnswer(status, found, body)

    def request(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None, extra: float
    ) -> RawAnswer:
        self.sent.append((method, target, headers, body))
        return self._answer


def client(transport: FakeTransport, **settings: object) -> ConsulClient:
    made = ConsulClient(read(Table(settings, "test"), {}))
    made._transport = transport  # type: ignore[assignment]
    return made


def test_requests_carry_token_auth_datacenter_and_a_quoted_path() -> None:
    pair = b'[{"Key": "k", "ModifyIndex": 3, "Value": null}]'
    transport = FakeTransport(200, pair, X_Consul_Index="42")
    made = client(transport, token="t", http_auth="me:pw", datacenter="dc2")
    answer = made.get("/v1/kv/leadertag/locks/a b%2F?", {"recurse": ""})
    assert (answer.status, answer.index, answer.data) == (200, 42, json.loads(pair))
    made.get("/v1/agent/members")
    (_, target, headers, _), (_, agent, _, _) = transport.sent
    assert target == "/v1/kv/leadertag/locks/a%20b%252F%3F?recurse=&dc=dc2"
    assert agent == "/v1/agent/members"  # the agent's own endpoints know no datacenter
    assert headers["X-Consul-Token"] == "t"
    assert headers["Authorization"] == "Basic bWU6cHc="


def test_a_filtered_answer_is_not_taken_for_the_whole() -> None:
    """Newer servers tell that ACLs hid something: an empty list is not "none" then."""
    transport = FakeTransport(200, b"[]", X_Consul_Results_Filtered_By_ACLs="true")
    with pytest.raises(PermissionDenied):
        client(transport).get("/v1/health/service/redis")


@pytest.mark.parametrize("body", [b"<html>", b"[1", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_unavailable(body: bytes) -> None:
    with pytest.raises(BackendUnavailable):
        client(FakeTransport(200, body)).get("/v1/agent/self")
    with pytest.raises(BackendUnavailable):
        client(FakeTransport(200, body)).verb(lambda consul: consul.query.list())


def test_a_refused_transaction_tells_which_operations() -> None:
    body = b'{"Results":null,"Errors":[{"OpIndex":1,"What":"stale\\nindex"}]}'
    outcome = client(FakeTransport(409, body)).txn([operation("get", "k")] * 2)
    assert not outcome.committed
    assert outcome.failures == {1: "stale index"}


def test_a_transaction_denied_is_denied() -> None:
    body = b'{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}'
    with pytest.raises(PermissionDenied, match="key_prefix"):
        client(FakeTransport(409, body)).txn([operation("get", "k")])


def test_a_fixed_token_needs_no_file() -> None:
    assert Token(ConsulSettings(Address("http", "a", 1), token="t"))() == "t"


def test_the_pool_is_bounded() -> None:
    """All connections waiting is an error in time, not one connection more."""
    import socket

    from leadertag_consul.settings import Tls

    listener = socket.create_server(("127.0.0.1", 0))
    address = Address("http", "127.0.0.1", listener.getsockname()[1])
    transport = Transport(address, Tls(), timeout=0.3, size=2)
    errors: list[str] = []

    def ask() -> None:
        try:
            transport.request("GET", "/", {}, None, 0.5)
        except BackendUnavailable as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.close()
    assert len(errors) == 5
    assert any("all connections" in error for error in errors)
