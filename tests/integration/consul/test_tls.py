"""HTTPS with client certificates and a private authority: what is said, and renewal."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from leadertag.errors import BackendUnavailable
from leadertag_consul.client import ConsulClient
from leadertag_consul.settings import read
from tests.conftest import need
from tests.integration.consul.certificates import Authority
from tests.integration.consul.conftest import context_of, register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.leadertag import Daemon, Finished, leadertag, to_toml
from tests.tools.processes import wait_until

NAME = "server.dc1.consul"
PORT = 8501


@dataclass
class Secure:
    """A server that speaks https with those who have a certificate of its authority's."""

    agent: ConsulAgent
    folder: Path
    authority: Authority
    client: dict[str, str] = field(default_factory=dict)
    """The variables of a client for which all is well."""

    def serve(self, *names: str, days: int = 1, authority: Authority | None = None) -> None:
        """Let the server use another certificate, at once."""
        (authority or self.authority).issue("server", names=names, days=days)
        self.agent.reload()

    def query(self, **changes: str) -> Finished:
        """`leadertag query nobody`: with everything right, it is told that there is none."""
        return leadertag("query", "nobody", env={**self.client, **changes})

    def refusal(self, **changes: str) -> str:
        """What is said on one line when it does not get through."""
        done = self.query(**changes)
        assert done.exit_code == 1, done
        assert "PRIVATE KEY" not in done.output
        return done.error_line


def _settings(folder: Path, authority: Authority) -> dict[str, object]:
    return {
        "ports": {"https": PORT},
        "ca_file": str(authority.file),
        "cert_file": str(folder / "server.pem"),
        "key_file": str(folder / "server.key"),
        "verify_incoming": True,
        "verify_outgoing": True,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """The server of this module's tests."""
    need("consul")
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "ca")
    cluster = ConsulCluster(folder / "consul", agents=0)
    agent = cluster.server
    authority.issue("server", names=(agent.ip, NAME))
    (agent.config_dir / "tls.json").write_text(json.dumps(_settings(folder, authority)))
    certificate, key = authority.issue("client")
    variables = {
        "CONSUL_HTTP_ADDR": f"https://{agent.ip}:{PORT}",
        "CONSUL_CACERT": str(authority.file),
        "CONSUL_CLIENT_CERT": str(certificate),
        "CONSUL_CLIENT_KEY": str(key),
    }
    with cluster:
        yield Secure(agent, folder, authority, variables)


@pytest.fixture
def secure(server: Secure) -> Iterator[Secure]:
    """The same, with a good certificate again after each test."""
    yield server
    server.serve(server.agent.ip, NAME)


def other(secure: Secure, name: str) -> Authority:
    """Another authority, which nobody has heard of."""
    folder = secure.folder / name
    folder.mkdir()
    return Authority(folder, name)


# -- what is said ----------------------------------------------------------------------------


def test_with_everything_right(secure: Secure) -> None:
    done = secure.query()
    assert done.error_line == f"leadertag: no query 'nobody' at {secure.client['CONSUL_HTTP_ADDR']}"
    with_name = secure.query(CONSUL_TLS_SERVER_NAME=NAME)
    assert with_name.error_line == done.error_line


def test_a_private_authority_that_is_not_named(secure: Secure) -> None:
    line = secure.refusal(CONSUL_CACERT="")
    assert "the server's certificate is not accepted" in line
    assert "ca_file" in line


def test_a_wrong_authority(secure: Secure) -> None:
    line = secure.refusal(CONSUL_CACERT=str(other(secure, "wrong").file))
    assert "the server's certificate is not accepted" in line
    assert "ca_file" in line


def test_a_server_s_certificate_that_has_expired(secure: Secure) -> None:
    secure.serve(secure.agent.ip, NAME, days=-1)
    assert "not accepted: certificate has expired" in secure.refusal()


def test_a_server_s_certificate_for_another_host(secure: Secure) -> None:
    secure.serve("other.example")
    line = secure.refusal()
    assert f"not valid for '{secure.agent.ip}'" in line
    assert "tls_server_name" in line
    line = secure.refusal(CONSUL_TLS_SERVER_NAME=NAME)
    assert f"not valid for '{NAME}'" in line
    ok = secure.query(CONSUL_TLS_SERVER_NAME="other.example")
    assert "no query" in ok.error_line


def test_no_verification_is_asked_for(secure: Secure) -> None:
    secure.serve("other.example", days=-1)
    done = secure.query(CONSUL_HTTP_SSL_VERIFY="false", CONSUL_CACERT="")
    assert "no query" in done.error_line


def test_no_client_certificate(secure: Secure) -> None:
    line = secure.refusal(CONSUL_CLIENT_CERT="", CONSUL_CLIENT_KEY="")
    assert "certificate" in line
    assert "cert_file and key_file" in line


@pytest.mark.parametrize("fault", ["expired", "foreign"])
def test_a_client_certificate_that_is_not_accepted(secure: Secure, fault: str) -> None:
    if fault == "expired":
        certificate, key = secure.authority.issue("expired", days=-1)
    else:
        certificate, key = other(secure, "foreign").issue("client")
    line = secure.refusal(CONSUL_CLIENT_CERT=str(certificate), CONSUL_CLIENT_KEY=str(key))
    assert "certificate" in line
    assert "cert_file and key_file" in line


def test_files_that_cannot_be_used(secure: Secure) -> None:
    for key, variable in (("ca_file", "CONSUL_CACERT"), ("cert_file", "CONSUL_CLIENT_CERT")):
        line = secure.refusal(**{variable: "/nowhere.pem"})
        assert f"{key} /nowhere.pem cannot be read: No such file" in line
    assert "key_file" in secure.refusal(CONSUL_CLIENT_KEY="/nowhere.key")
    _, foreign = secure.authority.issue("another")
    line = secure.refusal(CONSUL_CLIENT_KEY=str(foreign))
    assert "certificate and key do not belong together" in line
    certificate, locked = secure.authority.issue("locked", password=b"sekrit")
    line = secure.refusal(CONSUL_CLIENT_CERT=str(certificate), CONSUL_CLIENT_KEY=str(locked))
    assert "encrypted with a password" in line


def test_http_and_https_mixed_up(secure: Secure) -> None:
    line = secure.refusal(CONSUL_HTTP_ADDR=f"https://{secure.agent.ip}:8500")
    assert "http instead of https?" in line
    line = secure.refusal(CONSUL_HTTP_ADDR=f"http://{secure.agent.ip}:{PORT}")
    assert "HTTPS server" in line


# -- renewal -----------------------------------------------------------------------------------


def client_of(agent: ConsulAgent, **settings: str) -> ConsulClient:
    """A client with those settings."""
    return ConsulClient(read(context_of(agent, **settings).settings, {}))


def test_new_connections_use_renewed_files(secure: Secure) -> None:
    certificate, key = secure.authority.issue("renewed", days=-1)
    asked = client_of(
        secure.agent, address=secure.client["CONSUL_HTTP_ADDR"], ca_file=str(secure.authority.file),
        cert_file=str(certificate), key_file=str(key),
    )  # fmt: skip
    with pytest.raises(BackendUnavailable, match="cert_file and key_file"):
        asked.get("/v1/status/leader")
    secure.authority.issue("renewed")
    assert asked.get("/v1/status/leader").data
    # Half of a renewal, and none at all: the last ones count.
    for broken in (b"", None):
        key.write_bytes(broken) if broken is not None else key.unlink()
        asked.close()
        assert asked.get("/v1/status/leader").data


def test_a_daemon_that_leads_lives_through_a_change_of_the_authority(
    make_unstarted: Callable[[], ConsulCluster], tmp_path: Path
) -> None:
    """Nobody accepts the old certificates after it; the daemon is not restarted."""
    authority, cluster = Authority(tmp_path, "ca"), make_unstarted()
    agent = cluster.server
    settings = tmp_path / "used.pem"
    settings.write_bytes(authority.file.read_bytes())
    authority.issue("server", names=(agent.ip,))
    certificate, key = authority.issue("client")
    merged = {**_settings(tmp_path, authority), "ca_file": str(settings)}
    (agent.config_dir / "tls.json").write_text(json.dumps(merged))
    cluster.start()
    register(agent, "redis")
    config = tmp_path / "leadertag.toml"
    config.write_text(to_toml({
        "backend": "consul", "state_dir": str(tmp_path / "state"),
        "backends": {"consul": {
            "address": f"https://{agent.ip}:{PORT}", "ca_file": str(settings),
            "cert_file": str(certificate), "key_file": str(key),
        }},
        "elections": {"redis": {"service": "redis", "lease": "60s"}},
    }))  # fmt: skip
    daemon = Daemon(config, name="leadertag over https")
    daemon.start()
    try:
        wait_until(lambda: "-> leading" in daemon.log(), 30, "it leads")
        new = Authority(tmp_path, "ca")
        settings.write_bytes(new.file.read_bytes())
        new.issue("server", names=(agent.ip,))
        new.issue("client")
        agent.restart()  # ends every connection; only the new certificates count now
        assert daemon.log().count("-> leading") == 1
        assert "-> demoting" not in daemon.log()
        # It writes: gives up in order.
        daemon.process.signal(signal.SIGINT)
        wait_until(lambda: not daemon.process.running, 30, "it ends")
        assert daemon.process.exit_status == 0
        assert agent.get("/v1/agent/service/redis")["Tags"] == []
    finally:
        daemon.kill_all()


@pytest.fixture
def make_unstarted(tmp_path: Path) -> Iterator[Callable[[], ConsulCluster]]:
    """Makes a server that is not started yet, and ends it."""
    need("consul")
    made: list[ConsulCluster] = []

    def make() -> ConsulCluster:
        made.append(ConsulCluster(tmp_path / "consul", agents=0))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()
