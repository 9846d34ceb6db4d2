"""The backend's settings: the configuration's table first, then ``CONSUL_*``, then defaults.

The variables are those of Consul's own client, with its meaning and its precedence among
themselves. They are read here and nowhere else: python-consul2 reads some of them by
itself, differently, and lets them win over explicit arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_consul.address import DEFAULT, Address, parse

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
DEFAULT_TIMEOUT = 2.0
"""Seconds: well above a healthy answer (milliseconds), below the default lease."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak https. ``server_name`` replaces the host in SNI and verification."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class ConsulSettings:
    """Everything that the client needs. It has no repr: two of its fields are secrets."""

    address: Address
    token: str = ""
    token_file: str = ""
    http_auth: str = ""
    datacenter: str = ""
    node: str = ""
    """The agent's node, for tokens that may not read ``/v1/agent/self``."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for one request, connecting included; a blocking query's wait comes on top."""
    prefix: str = "leadertag"
    tls: Tls = Tls()

    def __repr__(self) -> str:
        return f"ConsulSettings({self.address})"


def read(table: Table, environ: Mapping[str, str]) -> ConsulSettings:
    """Read and check the settings; ConfigError for anything wrong."""
    env = _Environment(environ)
    env.refuse_namespace()
    token, token_file = _token(table, env)
    settings = ConsulSettings(
        address=_address(table, env),
        token=token,
        token_file=token_file,
        http_auth=table.text("http_auth", env.text("CONSUL_HTTP_AUTH")),
        datacenter=table.text("datacenter", ""),
        node=table.text("node", ""),
        timeout=table.seconds("timeout", DEFAULT_TIMEOUT),
        prefix=table.text("prefix", "leadertag").strip("/"),
        tls=_tls(table, env),
    )
    table.done()
    if settings.timeout <= 0:
        raise ConfigError(f"{table.where}: timeout must be longer than 0s")
    if not settings.prefix:
        raise ConfigError(f"{table.where}: prefix must not be empty")
    return settings


def _address(table: Table, env: _Environment) -> Address:
    if "address" in table:
        return parse(table.text("address"), f"{table.where}: address")
    table.text("address", "")  # known, though absent
    tls = env.flag("CONSUL_HTTP_SSL", False)
    return parse(env.text("CONSUL_HTTP_ADDR") or DEFAULT, "CONSUL_HTTP_ADDR", tls=tls)


def _token(table: Table, env: _Environment) -> tuple[str, str]:
    token, file = table.text("token", ""), table.text("token_file", "")
    if token and file:
        raise ConfigError(f"{table.where}: token and token_file exclude each other")
    if token or file:
        return token, file
    # As Consul's client: a file that has a token in it wins over CONSUL_HTTP_TOKEN.
    return env.text("CONSUL_HTTP_TOKEN"), env.text("CONSUL_HTTP_TOKEN_FILE")


def _tls(table: Table, env: _Environment) -> Tls:
    tls = Tls(
        ca_file=table.text("ca_file", env.text("CONSUL_CACERT")),
        ca_path=table.text("ca_path", env.text("CONSUL_CAPATH")),
        cert_file=table.text("cert_file", env.text("CONSUL_CLIENT_CERT")),
        key_file=table.text("key_file", env.text("CONSUL_CLIENT_KEY")),
        server_name=table.text("tls_server_name", env.text("CONSUL_TLS_SERVER_NAME")),
        verify=table.flag("verify", env.flag("CONSUL_HTTP_SSL_VERIFY", True)),
    )
    if bool(tls.cert_file) != bool(tls.key_file):
        raise ConfigError(
            f"{table.where}: cert_file (CONSUL_CLIENT_CERT) and key_file (CONSUL_CLIENT_KEY) "
            "belong together, one is missing"
        )
    return tls


class _Environment:
    """The variables; an empty one counts as unset, as in Consul's client."""

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

    def refuse_namespace(self) -> None:
        # Consul Enterprise only. Ignoring it would put the locks where nobody looks.
        if self.text("CONSUL_NAMESPACE") not in ("", "default"):
            raise ConfigError("CONSUL_NAMESPACE is set: namespaces are not supported, unset it")
