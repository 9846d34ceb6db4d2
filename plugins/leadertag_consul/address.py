"""Where the agent is: the spellings that Consul's own client accepts."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from leadertag.errors import ConfigError

DEFAULT = "127.0.0.1:8500"
_PORTS = {"http": 80, "https": 443}  # Consul's client adds none: the scheme's own port counts
_FORMS = "host:port, http://host:port, https://host[:port] or unix:///path"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. ``path`` is a unix socket's; host and port are then unused."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse(text: str, where: str, *, tls: bool = False) -> Address:
    """Parse an address; ``where`` names its source for the message of a ConfigError.

    ``tls`` asks for https whatever the address says, as Consul's client does for
    ``CONSUL_HTTP_SSL`` ("never revert to http if TLS was explicitly requested").
    """
    if not text.isprintable() or " " in text:
        raise ConfigError(f"{where}: {_shown(text)} is no address (write {_FORMS})")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ConfigError(f"{where}: {text!r} names no absolute path (write unix:///path)")
        return Address("http", path=rest)
    if scheme not in _PORTS:
        raise ConfigError(f"{where}: unknown scheme {scheme!r} in {_shown(text)} (write {_FORMS})")
    scheme = "https" if tls else scheme
    try:
        split = urlsplit(f"//{rest}")
        host, port = split.hostname, split.port
    except ValueError:
        host, port = None, None
    if not host or split.username is not None or split.path not in ("", "/") or split.query:
        raise ConfigError(f"{where}: {_shown(text)} is no address (write {_FORMS})")
    return Address(scheme, host, port if port is not None else _PORTS[scheme])


def _shown(text: str) -> str:
    # A user:password@ part must not end up in a log.
    return repr(text.rpartition("@")[2]) if "@" in text else repr(text)
