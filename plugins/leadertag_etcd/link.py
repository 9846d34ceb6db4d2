"""One connection to one member of the cluster, and the stubs that speak over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leadertag.errors import BackendUnavailable
from leadertag_etcd.address import Endpoint
from leadertag_etcd.library import Library
from leadertag_etcd.settings import EtcdSettings, Tls

_LARGEST_ANSWER = 64 << 20  # bytes; gRPC's own limit is 4 MiB, of every answer
_OPTIONS: Sequence[tuple[str, int]] = (
    # Two clients of one process must not share a connection, nor its failures.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", _LARGEST_ANSWER),
)


class Link:
    """A channel; it connects at the first request, and again when it has broken."""

    def __init__(self, library: Library, settings: EtcdSettings, endpoint: Endpoint) -> None:
        """Reads the files of TLS; BackendUnavailable when one cannot be read just now."""
        self.endpoint = endpoint
        self.users = 0
        """Requests under way; counted by the client, as is the next."""
        self.retired = False
        """Whether no request is to begin on it any more: the last one closes it."""
        options: list[tuple[str, Any]] = [
            *_OPTIONS,
            ("grpc.keepalive_time_ms", int(settings.keepalive_time * 1000)),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout * 1000)),
        ]
        grpc, rpc = library.grpc, library.rpc
        if endpoint.tls:
            if settings.tls.server_name:
                options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
            credentials = _credentials(grpc, settings.tls)
            self.channel = grpc.secure_channel(endpoint.target, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(endpoint.target, options=options)
        self.kv = rpc.KVStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.auth = rpc.AuthStub(self.channel)

    def close(self) -> None:
        """End every request on it."""
        self.channel.close()


def _credentials(grpc: Any, tls: Tls) -> Any:
    try:
        return grpc.ssl_channel_credentials(
            root_certificates=_contents(tls.ca_file),
            private_key=_contents(tls.key_file),
            certificate_chain=_contents(tls.cert_file),
        )
    except OSError as error:
        # Not a ConfigError: they are read at each connection, and may be in rotation.
        raise BackendUnavailable(f"etcd: TLS file {error.filename}: {error.strerror}") from error


def _contents(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()
