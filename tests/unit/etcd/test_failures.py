"""gRPC's and etcd's errors, as they were seen, in our own terms."""

from __future__ import annotations

import pytest

from leadertag.errors import BackendError, BackendUnavailable, LeaseLost, PermissionDenied
from leadertag_etcd.failures import Failure

REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
    "Failed to connect to remote host: Connection refused"
)


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason"),
    [
        ("UNAVAILABLE", REFUSED, BackendUnavailable,
         "Failed to connect to remote host: Connection refused"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", BackendUnavailable, "no answer in time"),
        ("UNAVAILABLE", "etcdserver: no leader", BackendUnavailable, "no leader"),
        ("UNAVAILABLE", "etcdserver: request timed out", BackendUnavailable, "request timed out"),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", BackendUnavailable,
         "invalid auth token"),
        ("NOT_FOUND", "etcdserver: requested lease not found", LeaseLost,
         "requested lease not found"),
        ("PERMISSION_DENIED", "etcdserver: permission denied", PermissionDenied,
         "permission denied"),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", PermissionDenied,
         "user name is empty"),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password",
         PermissionDenied, "authentication failed, invalid user ID or password"),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", BackendUnavailable,
         "too many requests"),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", BackendError,
         "mvcc: database space exceeded"),
        ("CANCELLED", "", BackendUnavailable, "cancelled"),
    ],
)  # fmt: skip
def test_errors(code: str, text: str, kind: type[BackendError], reason: str) -> None:
    error = Failure(code, text).error("a:1")
    assert type(error) is kind
    assert str(error) == f"etcd at a:1: {reason}"


def test_only_what_certainly_did_nothing_is_sent_again() -> None:
    assert Failure("UNAVAILABLE", REFUSED).unsent
    assert Failure("UNAVAILABLE", "etcdserver: no leader").unsent
    for code, text in (
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "etcdserver: request timed out"),
        ("UNAVAILABLE", "etcdserver: leader changed"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("CANCELLED", "Channel closed!"),
    ):
        assert not Failure(code, text).unsent
        assert Failure(code, text).elsewhere
    assert not Failure("PERMISSION_DENIED", "etcdserver: permission denied").elsewhere
