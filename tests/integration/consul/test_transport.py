"""The transport against real agents: unix sockets, TLS, keep-alive, ending a blocked read."""

from __future__ import annotations

import datetime
import ipaddress
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, ConfigError
from leadertag_consul import transport
from leadertag_consul.client import ConsulClient
from leadertag_consul.settings import read
from leadertag_consul.transport import Aborted
from tests.integration.consul.conftest import Process
from tests.tools.consul import ConsulAgent, ConsulCluster


def client(**settings: object) -> ConsulClient:
    return ConsulClient(read(Table({"timeout": "5s", **settings}, "test"), {}))


def node(of: ConsulClient) -> str:
    return str(of.get("/v1/agent/self").data["Config"]["NodeName"])


def test_unix_socket(make_cluster: Callable[..., ConsulCluster], tmp_path: Path) -> None:
    path = tmp_path / "consul.sock"
    server = make_cluster(agents=0).server
    server.stop()
    both = {"addresses": {"http": f"{server.ip} unix://{path}"}}
    (server.config_dir / "unix.json").write_text(json.dumps(both))
    server.start()
    server.wait_ready()
    assert node(client(address=f"unix://{path}")) == "server"
    with pytest.raises(BackendUnavailable, match=r"unix://.*nothing"):
        client(address=f"unix://{path}-nothing").get("/v1/agent/self")


class Certificates:
    """A CA, a server's certificate for its address and a name, and a client's."""

    def __init__(self, folder: Path, ip: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        self._folder = folder
        now = datetime.datetime.now(datetime.UTC)

        def make(name: str, ca: bool = False) -> None:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            issuer, signer = (subject, key) if ca else (self._ca_name, self._ca_key)
            if ca:
                self._ca_name, self._ca_key = subject, key
            names: list[x509.GeneralName] = [x509.DNSName("server.dc1.consul")]
            if name == "server":
                names.append(x509.IPAddress(ipaddress.ip_address(ip)))
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca, None), critical=True)
            )
            if not ca:
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            certificate = builder.sign(signer, hashes.SHA256())
            self.path(f"{name}.pem").write_bytes(
                certificate.public_bytes(serialization.Encoding.PEM)
            )
            self.path(f"{name}.key").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )

        make("ca", ca=True)
        make("server")
        make("client")

    def path(self, name: str) -> Path:
        return self._folder / name


def test_tls(make_cluster: Callable[..., ConsulCluster], tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    server = make_cluster(agents=0).server
    made = Certificates(tmp_path, server.ip)
    server.stop()
    config = {
        "ports": {"https": 8501},
        "ca_file": str(made.path("ca.pem")),
        "cert_file": str(made.path("server.pem")),
        "key_file": str(made.path("server.key")),
        "verify_incoming_https": True,
    }
    (server.config_dir / "tls.json").write_text(json.dumps(config))
    server.start()
    server.wait_ready()
    address = f"https://{server.ip}:8501"
    full = {
        "address": address,
        "ca_file": str(made.path("ca.pem")),
        "cert_file": str(made.path("client.pem")),
        "key_file": str(made.path("client.key")),
    }
    assert node(client(**full)) == "server"
    assert node(client(**full, tls_server_name="server.dc1.consul")) == "server"
    assert node(client(**{**full, "ca_file": ""}, verify=False)) == "server"
    for wrong, said in (
        ({**full, "ca_file": ""}, "certificate"),
        ({**full, "tls_server_name": "other.example"}, "certificate"),
        ({**full, "cert_file": "", "key_file": ""}, ""),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            node(client(**wrong))
        assert said in str(caught.value).lower()
    with pytest.raises(ConfigError, match="nonesuch"):
        node(client(**{**full, "ca_file": "nonesuch"}))


def test_connections_are_kept(n1: ConsulAgent) -> None:
    asked = client(address=n1.address)
    asked.get("/v1/agent/self")
    ((_, kept),) = asked._transport._idle
    port = kept.sock.getsockname()
    for _ in range(5):
        asked.get("/v1/status/leader")
    ((_, still),) = asked._transport._idle
    assert still.sock.getsockname() == port
    asked.close()
    assert asked.get("/v1/status/leader").data


def test_a_blocked_read_can_be_ended(n1: ConsulAgent, unique_name: str) -> None:
    asked = client(address=n1.address).dedicated()
    index = asked.get(f"/v1/kv/{unique_name}").index
    outcome: list[object] = []

    def read_() -> None:
        try:
            path = f"/v1/health/service/{unique_name}"
            outcome.append(asked.get(path, {"index": index + 10**6, "wait": "600000ms"}))
        except BackendUnavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=read_, daemon=True)
    thread.start()
    while not asked._transport._busy:
        thread.join(0.01)
    asked.abort()
    thread.join(10)
    assert isinstance(outcome[0], Aborted)
    with pytest.raises(Aborted):
        asked.get("/v1/agent/self")


def test_any_number_of_elections_is_two_watches_and_one(p1: Process, unique_name: str) -> None:
    few = p1.registry.watch([(unique_name, unique_name)])
    many = p1.registry.watch([(f"{unique_name}-{n}", f"{unique_name}-{n}") for n in range(30)])
    assert len(few) == len(many) == 2


def test_what_a_busier_time_needed_is_closed_again(
    n1: ConsulAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred elections that begin together need many connections, and then few."""
    of = client(address=n1.address)
    meet = threading.Barrier(5)

    def ask(_: int) -> None:
        meet.wait(10)
        for _ in range(20):  # at least two of them are under way at the same time
            node(of)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(ask, range(5)))
    assert len(of._transport._idle) > 1
    monkeypatch.setattr(transport, "_SPARE", 0.0)
    node(of)
    assert len(of._transport._idle) == 1
    of.close()
