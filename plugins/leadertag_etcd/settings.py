"""The backend's settings: the configuration's table first, then ``ETCDCTL_*``, then defaults.

The variables are etcdctl's, with its meaning. Those that only shape its output mean nothing
here; those that ask for what gRPC for Python cannot do are refused rather than ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_etcd.address import DEFAULT, Endpoint, parse

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_GO_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_GO_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
"""One label of a DNS name, as CoreDNS asks for it: in lower case."""
LONGEST_DNS_TTL = 86400.0
SHORTEST_TTL = 2
"""Seconds: etcd makes every shorter lease as long."""
SHORTEST_KEEPALIVE = 5.0
"""Seconds: etcd ends the connection of a client that pings more often."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS. ``server_name`` replaces the host in SNI and verification."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class SkyDnsSettings:
    """Where records for CoreDNS go. ``ttl`` is what resolvers are told, in seconds."""

    prefix: str = "/skydns"
    zone: str = ""
    ttl: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class EtcdSettings:
    """All times are seconds. It has no repr: a field of it is a secret."""

    endpoints: tuple[Endpoint, ...]
    user: str = ""
    password: str = ""
    password_file: str = ""
    tls: Tls = Tls()
    timeout: float = 2.0
    """For one request, all its endpoints together."""
    keepalive_time: float = 10.0
    """After so much silence the connection is probed: what finds a dead one while idle."""
    keepalive_timeout: float = 3.0
    prefix: str = "leadertag"
    node: str = ""
    node_meta: Mapping[str, str] = field(default_factory=dict)
    gate_ttl: int = SHORTEST_TTL
    """``gate_life``: of the lease that the open gates of a process hang on."""
    report_ttl: int = 15
    """``report_life``: of the lease that its instances hang on."""
    skydns: SkyDnsSettings | None = None
    """Where records for CoreDNS go; ``None``: there are none."""

    def __repr__(self) -> str:
        return f"EtcdSettings({', '.join(map(str, self.endpoints))})"


def read(table: Table, environ: Mapping[str, str]) -> EtcdSettings:
    """Read and check the settings; ConfigError for anything wrong. No I/O."""
    env = _Environment(environ)
    tls = _tls(table, env)
    user, password, password_file = _credentials(table, env)
    settings = EtcdSettings(
        endpoints=_endpoints(table, env, tls),
        user=user,
        password=password,
        password_file=password_file,
        tls=tls,
        timeout=_positive(table, "timeout", env.seconds("ETCDCTL_COMMAND_TIMEOUT", 2.0)),
        keepalive_time=max(
            SHORTEST_KEEPALIVE,
            _positive(table, "keepalive_time", env.seconds("ETCDCTL_KEEPALIVE_TIME", 10.0)),
        ),
        keepalive_timeout=_positive(
            table, "keepalive_timeout", env.seconds("ETCDCTL_KEEPALIVE_TIMEOUT", 3.0)
        ),
        prefix=table.text("prefix", "leadertag").strip("/"),
        node=table.text("node", "") or os.uname().nodename,
        node_meta=table.mapping("node_meta", {}),
        gate_ttl=_ttl(table, "gate_life", 2.0),
        report_ttl=_ttl(table, "report_life", 15.0),
        skydns=_skydns(table),
    )
    table.done()
    if not settings.prefix:
        raise ConfigError(f"{table.where}: prefix must not be empty")
    return settings


def _endpoints(table: Table, env: _Environment, tls: Tls) -> tuple[Endpoint, ...]:
    insecure = table.flag("insecure_transport", env.flag("ETCDCTL_INSECURE_TRANSPORT", True))
    encrypted = tls != Tls() or not insecure
    if "endpoints" in table:
        value, source = table.raw("endpoints"), f"{table.where}: endpoints"
        # One string too, as in ETCDCTL_ENDPOINTS: that is how a variable brings it.
        texts = value.split(",") if isinstance(value, str) else table.texts("endpoints")
    else:
        table.raw("endpoints", None)  # known, though absent
        if not env.text("ETCDCTL_ENDPOINTS") and env.text("ETCDCTL_DISCOVERY_SRV"):
            raise ConfigError(
                "ETCDCTL_DISCOVERY_SRV is not supported: set endpoints or ETCDCTL_ENDPOINTS"
            )
        source = "ETCDCTL_ENDPOINTS"
        texts = (env.text(source) or DEFAULT).split(",")
    endpoints = tuple(parse(text, source, tls=encrypted) for text in texts if text.strip())
    if not endpoints:
        raise ConfigError(f"{source}: names no endpoint (write host:2379)")
    if env.flag("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", False) and any(e.tls for e in endpoints):
        raise ConfigError(
            "ETCDCTL_INSECURE_SKIP_TLS_VERIFY is set, but gRPC for Python always verifies: "
            "unset it and name the authority with ca_file or ETCDCTL_CACERT"
        )
    return tuple(dict.fromkeys(endpoints))


def _tls(table: Table, env: _Environment) -> Tls:
    tls = Tls(
        ca_file=table.text("ca_file", env.text("ETCDCTL_CACERT")),
        cert_file=table.text("cert_file", env.text("ETCDCTL_CERT")),
        key_file=table.text("key_file", env.text("ETCDCTL_KEY")),
        server_name=table.text("tls_server_name", env.text("ETCDCTL_TLS_SERVER_NAME")),
    )
    if bool(tls.cert_file) != bool(tls.key_file):
        raise ConfigError(
            f"{table.where}: cert_file (ETCDCTL_CERT) and key_file (ETCDCTL_KEY) belong "
            "together, one is missing"
        )
    return tls


def _credentials(table: Table, env: _Environment) -> tuple[str, str, str]:
    """Return user, password, and the file to read the password from."""
    password, file = table.text("password", ""), table.text("password_file", "")
    if password and file:
        raise ConfigError(f"{table.where}: password and password_file exclude each other")
    if not (password or file):
        password = env.text("ETCDCTL_PASSWORD")
    user = table.text("user", "")
    if not user:
        # As etcdctl: only without a password of its own is USER "name:password".
        user = env.text("ETCDCTL_USER")
        if user and not (password or file):
            user, _, password = user.partition(":")
    if bool(user) != bool(password or file):
        missing = "password (ETCDCTL_PASSWORD)" if user else "user (ETCDCTL_USER)"
        raise ConfigError(f"{table.where}: {missing} is missing: user and password go together")
    return user, password, file


def _skydns(parent: Table) -> SkyDnsSettings | None:
    if "skydns" not in parent:
        parent.raw("skydns", None)  # known, though absent
        return None
    table = parent.table("skydns")
    prefix = table.text("prefix", "/skydns").rstrip("/")
    zone = table.text("zone").strip(".").lower()
    seconds = table.seconds("ttl", 1.0)
    table.done()
    if not prefix.startswith("/"):
        raise ConfigError(f"{table.where}: prefix = {prefix!r} must begin with a slash")
    if not all(map(LABEL.fullmatch, zone.split("."))):
        raise ConfigError(f"{table.where}: zone = {zone!r} is no domain (write leadertag.local)")
    if seconds != int(seconds) or not 1 <= seconds <= LONGEST_DNS_TTL:
        raise ConfigError(f"{table.where}: ttl must be whole seconds, 1s to 86400s")
    return SkyDnsSettings(prefix, zone, int(seconds))


def _positive(table: Table, key: str, default: float) -> float:
    seconds = table.seconds(key, default)
    if seconds <= 0:
        raise ConfigError(f"{table.where}: {key} must be longer than 0s")
    return seconds


def _ttl(table: Table, key: str, default: float) -> int:
    seconds = table.seconds(key, default)
    if seconds < SHORTEST_TTL or seconds != int(seconds):
        raise ConfigError(
            f"{table.where}: {key} must be whole seconds, {SHORTEST_TTL}s or more: it is the "
            "life of an etcd lease"
        )
    return int(seconds)


class _Environment:
    """The variables; an empty one counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(name, "")

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if not value:
            return default
        if value not in _TRUE | _FALSE:
            raise ConfigError(f"{name} = {value!r} is neither true nor false (write true or false)")
        return value in _TRUE

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name)
        if not value:
            return default
        if not _GO_DURATION.fullmatch(value):
            raise ConfigError(f"{name} = {value!r} is no duration (write 2s or 500ms)")
        seconds = sum(float(number) * _UNIT[unit] for number, unit in _GO_PART.findall(value))
        if seconds <= 0:
            raise ConfigError(f"{name} = {value!r} must be longer than 0s")
        return seconds
