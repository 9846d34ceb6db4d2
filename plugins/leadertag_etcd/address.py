"""Where a member of the cluster listens, in the spellings of etcdctl."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from leadertag.errors import ConfigError

DEFAULT = "127.0.0.1:2379"
PORT = 2379
_SCHEMES = ("http", "https", "unix", "unixs")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member. ``target`` is what gRPC dials."""

    target: str
    tls: bool = False

    def __str__(self) -> str:
        return self.target


def parse(text: str, source: str, *, tls: bool) -> Endpoint:
    """Return the endpoint; ConfigError names ``source`` when it is none.

    ``tls`` says how to speak to one without a scheme, as etcdctl has it.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        return Endpoint(_target(text.strip(), text, source), tls)
    if scheme not in _SCHEMES:
        raise _wrong(text, source)
    if scheme.startswith("unix"):
        if not rest.startswith("/"):
            raise _wrong(text, source)
        return Endpoint(f"unix:{rest}", scheme == "unixs")
    return Endpoint(_target(rest.removesuffix("/"), text, source), scheme == "https")


def _target(authority: str, text: str, source: str) -> str:
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port
        plain = not (parts.path or parts.query or parts.fragment or parts.username is not None)
    except ValueError:
        raise _wrong(text, source) from None
    if not host or not plain or any(character.isspace() for character in authority):
        raise _wrong(text, source)
    return f"[{host}]:{port or PORT}" if ":" in host else f"{host}:{port or PORT}"


def _wrong(text: str, source: str) -> ConfigError:
    shown = "with a password" if "@" in text else repr(text)
    return ConfigError(
        f"{source}: {shown} is no endpoint (write host:2379, https://host:2379 or unix:///path)"
    )
