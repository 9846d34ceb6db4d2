"""What gRPC and etcd say when they refuse or fail, in terms of our own errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from leadertag.errors import BackendError, BackendUnavailable, LeaseLost, PermissionDenied

_OUT_OF_REACH = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"})
"""Codes after which another member may do better. UNKNOWN is a member that just stops."""
_NEVER_SENT = (
    "failed to connect to all addresses", "DNS resolution failed", "etcdserver: no leader",
    "etcdserver: not capable",
)  # fmt: skip
_OUTDATED = ("invalid auth token", "revision in header is old")
_NOBODY = "user name is empty"
_DENIED = ("permission denied", _NOBODY, "authentication failed")

_ADDRESS = re.compile(r"^(UNKNOWN: )?(ipv[46]:\S+|unix:\S+): ")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request failed: gRPC's code by name, and its text on one line."""

    code: str
    text: str

    @classmethod
    def of(cls, error: Any) -> Failure:
        """Read a ``grpc.RpcError``."""
        code = error.code()
        text = " ".join(str(error.details() or "").split())
        return cls(code.name if code is not None else "UNKNOWN", text)

    @property
    def elsewhere(self) -> bool:
        """Whether another member may do better."""
        return self.code in _OUT_OF_REACH and not self.stale_token

    @property
    def unsent(self) -> bool:
        """Whether the request has changed nothing for certain: then it may be sent again."""
        return self.code == "UNAVAILABLE" and any(word in self.text for word in _NEVER_SENT)

    @property
    def late(self) -> bool:
        """Whether nothing came in time: the connection itself may be dead."""
        return self.code == "DEADLINE_EXCEEDED"

    @property
    def stale_token(self) -> bool:
        """Whether the token is not good any more; the request was refused."""
        return any(word in self.text for word in _OUTDATED)

    @property
    def wants_token(self) -> bool:
        """Whether a new token may help: also when users have been introduced meanwhile."""
        return self.stale_token or _NOBODY in self.text

    def error(self, where: str) -> BackendError:
        """Return it as an error of ours. ``where`` is the member that was asked."""
        message = f"etcd at {where}: {self.reason}"
        if self.code == "NOT_FOUND" and "lease" in self.text:
            return LeaseLost(message)
        if self.code == "PERMISSION_DENIED" or any(word in self.text for word in _DENIED):
            return PermissionDenied(message)
        if self.elsewhere or self.stale_token or "too many requests" in self.text:
            return BackendUnavailable(message)
        return BackendError(message)

    @property
    def reason(self) -> str:
        """The text for people."""
        if self.late:
            return "no answer in time"
        short = self.text.removeprefix("etcdserver: ").partition("; last error: ")
        # gRPC's last error is "UNKNOWN: ipv4:1.2.3.4:2379: Failed to connect …".
        last = _ADDRESS.sub("", short[2])
        return (last or short[0] or self.code.lower().replace("_", " "))[:200]
