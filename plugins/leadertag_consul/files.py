"""What the client reads from files: the token and the TLS files, anew when they change.

A token or a certificate is renewed while the daemon runs. While that is under way a file
may be gone, empty or half written for a moment: the last good one counts until then.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leadertag.errors import BackendUnavailable, ConfigError
from leadertag_consul.settings import ConsulSettings, Tls

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("leadertag.consul")  # in the tree that the command line shows
LONGEST_TOKEN = 4096


class FileUnusable(BackendUnavailable, ConfigError):
    """A file of the settings cannot be used. It may be there soon: a daemon tries again."""


@dataclass(frozen=True, slots=True)
class Files:
    """One for all clients of a process."""

    token: Token
    tls: TlsFiles

    @classmethod
    def of(cls, settings: ConsulSettings) -> Self:
        """Make them; nothing is read yet."""
        return cls(Token(settings), TlsFiles(settings.tls))


def usable_token(token: str, source: str) -> str:
    """Return a token that fits into a header; ConfigError, without it, for any other."""
    if len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"{source}: the token is not one line of at most {LONGEST_TOKEN} plain characters"
        )
    return token


class Token:
    """The token; from a file, it is read again whenever that file has changed."""

    def __init__(self, settings: ConsulSettings) -> None:
        self._fixed = usable_token(settings.token.strip(), "the Consul token")
        self._file = settings.token_file
        self._mutex = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._value = ""
        self._told = ""

    def __call__(self) -> str:
        """Return the token as it stands now; FileUnusable when its file was never usable."""
        if not self._file:
            return self._fixed
        with self._mutex:
            seen = _version(self._file)
            if not seen or seen != self._seen:
                self._read(seen)
            return self._value or self._fixed

    def _read(self, seen: tuple[int, ...]) -> None:
        try:
            with open(self._file, encoding="utf-8") as file:
                value = usable_token(file.read(LONGEST_TOKEN + 1).strip(), self._file)
        except OSError as error:
            self._keep(f"token_file {self._file} cannot be read: {error.strerror}", error)
        except UnicodeDecodeError as error:
            self._keep(f"token_file {self._file} is no text", error)
        except ConfigError as error:
            self._keep(str(error), error)
        else:
            if value:
                self._value, self._seen, self._told = value, seen, ""
            elif self._value:
                self._keep(f"token_file {self._file} is empty", None)

    def _keep(self, trouble: str, error: Exception | None) -> None:
        if not self._value:
            raise FileUnusable(trouble) from error
        if trouble != self._told:
            log.warning("%s; the last token still counts", trouble)
        self._told = trouble


class TlsFiles:
    """The TLS context; made anew, for new connections, when a file of it has changed."""

    def __init__(self, tls: Tls) -> None:
        self.settings = tls
        self._mutex = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[object, ...] = ()
        self._told = ""

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection; FileUnusable where there never was one."""
        tls = self.settings
        with self._mutex:
            seen = tuple(map(_version, (tls.ca_file, tls.cert_file, tls.key_file)))
            if self._context is None or seen != self._seen:
                try:
                    self._context, self._seen, self._told = _context(tls), seen, ""
                except FileUnusable as error:
                    # Certificate and key are two files: for a moment they do not fit.
                    if self._context is None:
                        raise
                    self._tell(f"{error}; the last ones still count")
            return self._context

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            log.warning("%s", trouble)
        self._told = trouble


def _context(tls: Tls) -> ssl.SSLContext:
    import ssl

    files = {"ca_file": tls.ca_file, "cert_file": tls.cert_file, "key_file": tls.key_file}
    try:
        for name, path in files.items():
            _readable(name, path)
        context = ssl.create_default_context(cafile=tls.ca_file or None, capath=tls.ca_path or None)
        if tls.cert_file:
            # An encrypted key must not make a daemon ask for its password.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        used = ", ".join(f"{name} {path}" for name, path in files.items() if path)
        raise FileUnusable(f"TLS files cannot be used ({used}): {why(error)}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _readable(name: str, path: str) -> None:
    try:
        if path:
            open(path, "rb").close()
    except OSError as error:
        # OpenSSL would not say which one.
        raise FileUnusable(f"{name} {path} cannot be read: {error.strerror}") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted with a password")


def _version(path: str) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written; () where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_size


_CLIENT = "the server does not accept the client's certificate{} (see cert_file and key_file)"
_ALERTS = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate (see cert_file and key_file)",
    "CERTIFICATE_EXPIRED": _CLIENT.format(": it has expired"),
    "UNKNOWN_CA": _CLIENT.format(": its authority is another"),
    "BAD_CERTIFICATE": _CLIENT.format(", or wants one"),
    "WRONG_VERSION_NUMBER": "no TLS is spoken there: http instead of https?",
    "KEY_VALUES_MISMATCH": "certificate and key do not belong together",
}
"""Parts of OpenSSL's names for what went wrong, and what they mean here."""


def why(error: Exception) -> str:
    """Return an error of the connection or of a TLS file in one line."""
    # Not isinstance: without https nothing imports ssl.
    if refused := getattr(error, "verify_message", ""):
        key = "tls_server_name" if "match" in refused else "ca_file"
        return f"the server's certificate is not accepted: {refused} (see {key})"
    name = getattr(error, "reason", None) or ""
    for part, meaning in _ALERTS.items():
        if part in str(name):
            return meaning
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
