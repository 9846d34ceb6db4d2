"""TLS with client certificates; users, passwords and what they may do."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from leadertag.errors import BackendError, BackendUnavailable, PermissionDenied
from leadertag.model import Phase
from tests.conftest import need
from tests.integration.etcd.process import PATIENCE, Process, answered
from tests.tools.etcd import EtcdCluster, EtcdMember
from tests.tools.processes import wait_until

KEY = "redis/master"
PASSWORD = "hunter2-secret"


class Certificates:
    """An authority of its own, with a certificate for the server and one for the client."""

    def __init__(self, folder: Path, ip: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        folder.mkdir()
        self._folder = folder
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        authority = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        for name, key in (
            ("ca", authority),
            ("server", ec.generate_private_key(ec.SECP256R1())),
            ("client", ec.generate_private_key(ec.SECP256R1())),
        ):
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            names = x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(ip)), x509.DNSName("etcd.example")]
            )
            builder = x509.CertificateBuilder(
                issuer, issuer if name == "ca" else subject, key.public_key(),
                x509.random_serial_number(), now - day, now + day,
            ).add_extension(x509.BasicConstraints(name == "ca", None), critical=True)  # fmt: skip
            if name == "server":
                builder = builder.add_extension(names, critical=False)
            certificate = builder.sign(authority, hashes.SHA256())
            pem = serialization.Encoding.PEM
            (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
            (folder / f"{name}.key").write_bytes(
                key.private_bytes(
                    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def path(self, name: str) -> str:
        return str(self._folder / name)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Certificates]]:
    """A member that wants client certificates: its address, and the certificates."""
    need("etcd")
    pytest.importorskip("cryptography")
    member = EtcdMember("e1", tmp_path / "etcd")
    made = Certificates(tmp_path / "tls", member.ip)
    address = member.address.replace("http", "https")
    member.process.argv += [
        f"--data-dir={tmp_path / 'etcd' / 'data'}", f"--listen-client-urls={address}",
        f"--advertise-client-urls={address}", f"--listen-peer-urls={member.peer}",
        f"--initial-advertise-peer-urls={member.peer}", f"--initial-cluster=default={member.peer}",
        f"--cert-file={made.path('server.pem')}", f"--key-file={made.path('server.key')}",
        f"--trusted-ca-file={made.path('ca.pem')}", "--client-cert-auth", "--logger=zap",
    ]  # fmt: skip
    member.process.start()
    yield address, made
    member.close()


def test_tls_with_a_client_certificate(
    secure: tuple[str, Certificates], start: Callable[..., Process], tmp_path: Path
) -> None:
    address, made = secure
    files = {"ca_file": made.path("ca.pem")}
    files |= {"cert_file": made.path("client.pem"), "key_file": made.path("client.key")}
    process = start("n1", [address], **files)
    answered(lambda: process.lock.read(KEY), "the server is there")
    process.lock.open("a", ttl=10.0)
    lease = process.take(KEY)
    watch = process.lock.watch([KEY])
    assert watch.poll(PATIENCE) == {KEY: process.lock.read(KEY)}
    watch.close()

    # The same by etcdctl's variables, an endpoint without a scheme among them.
    environ = {
        "ETCDCTL_ENDPOINTS": address.removeprefix("https://"), "ETCDCTL_CACERT": files["ca_file"],
        "ETCDCTL_CERT": files["cert_file"], "ETCDCTL_KEY": files["key_file"],
    }  # fmt: skip
    assert start("n2", [], environ).lock.read(KEY).holder == lease.session

    stranger = Certificates(tmp_path / "stranger", "127.0.0.1")
    for wrong in (
        {"cert_file": "", "key_file": ""},
        {"ca_file": stranger.path("ca.pem")},
        {"tls_server_name": "another.example"},
    ):
        with pytest.raises(BackendUnavailable) as caught:
            start("n3", [address], timeout="1s", **{**files, **wrong}).lock.read(KEY)
        assert "\n" not in str(caught.value)
    named = start("n4", [address], **files, tls_server_name="etcd.example")
    assert named.lock.read(KEY).holder == lease.session
    with pytest.raises(BackendUnavailable, match=r"missing\.pem"):
        start("n5", [address], ca_file=made.path("missing.pem")).lock.read(KEY)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _protect(etcd: EtcdMember) -> None:
    """Users root and tagger; tagger may use the prefix ``leadertag/`` alone."""
    etcd.call("auth/user/add", {"name": "root", "password": PASSWORD})
    etcd.call("auth/user/add", {"name": "tagger", "password": PASSWORD})
    etcd.call("auth/role/add", {"name": "root"})
    etcd.call("auth/role/add", {"name": "tagging"})
    permission = {
        "permType": "READWRITE", "key": _encode("leadertag/"), "range_end": _encode("leadertag0"),
    }  # fmt: skip
    etcd.call("auth/role/grant", {"name": "tagging", "perm": permission})
    etcd.call("auth/user/grant", {"user": "root", "role": "root"})
    etcd.call("auth/user/grant", {"user": "tagger", "role": "tagging"})
    etcd.call("auth/enable", {})


def test_users_and_passwords(
    etcd_factory: Callable[..., EtcdCluster], start: Callable[..., Process], tmp_path: Path
) -> None:
    (etcd,) = etcd_factory().members
    known = {"user": "tagger", "password": PASSWORD}
    early = start("n0", [etcd.address], **known)
    early.lock.read(KEY)  # no users yet: then credentials are not asked for
    _protect(etcd)
    early.lock.read(KEY)  # and now they are

    process = start("n1", [etcd.address], **known)
    process.lock.open("a", ttl=30.0)
    lease = process.take(KEY)
    process.register("redis")
    watch = process.lock.watch([KEY])
    assert watch.poll(PATIENCE) == {KEY: process.lock.read(KEY)}

    # Tokens are kept in memory: a restart forgets them, and another one is asked for.
    etcd.process.stop()
    etcd.process.start()
    assert answered(lambda: process.lock.confirm([lease]), "it is back") == {KEY}

    process.lock.update(lease, replace(lease.record, phase=Phase.LEADING))

    def told() -> bool:
        try:
            snapshot = watch.poll(1.0)
        except BackendError:
            return False
        return snapshot is not None and snapshot[KEY].leader is not None

    wait_until(told, PATIENCE, "the watch goes on, with another token too")
    watch.close()

    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    by_file = start("n2", [etcd.address], user="tagger", password_file=str(file))
    assert by_file.lock.read(KEY).holder == lease.session
    environ = {"ETCDCTL_ENDPOINTS": etcd.address, "ETCDCTL_USER": f"tagger:{PASSWORD}"}
    assert start("n3", [], environ).lock.read(KEY).holder == lease.session


def test_who_may_not(
    etcd_factory: Callable[..., EtcdCluster], start: Callable[..., Process]
) -> None:
    (etcd,) = etcd_factory().members
    _protect(etcd)
    known = {"user": "tagger", "password": PASSWORD}
    for wrong in (
        {},
        {"user": "tagger", "password": "wrong-secret"},
        {**known, "prefix": "others"},
    ):
        process = start("n1", [etcd.address], **wrong)
        for verb in (
            lambda p=process: p.lock.read(KEY),
            lambda p=process: p.lock.watch([KEY]).poll(1.0),
            lambda p=process: p.query.remove("nonesuch"),
        ):
            with pytest.raises(PermissionDenied) as caught:
                verb()
            assert "secret" not in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_watch_that_is_not_allowed_is_told_so(
    etcd_factory: Callable[..., EtcdCluster], start: Callable[..., Process]
) -> None:
    """Reading each lock may be allowed where watching all of them is not."""
    (etcd,) = etcd_factory().members
    _protect(etcd)
    process = start("n1", [etcd.address], user="tagger", password=PASSWORD, prefix="others")
    process.backend.client.read = lambda *spans, **how: (1, [[] for _ in spans])  # type: ignore[method-assign]
    watch = process.lock.watch([KEY])
    assert watch.poll(PATIENCE) is not None
    with pytest.raises(PermissionDenied):
        watch.poll(PATIENCE)
