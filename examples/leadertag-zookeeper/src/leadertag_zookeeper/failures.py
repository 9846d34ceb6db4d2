"""What kazoo raises, in terms of leadertag's errors."""

from __future__ import annotations

from kazoo import exceptions as kz
from kazoo.handlers.threading import KazooTimeoutError
from leadertag.errors import BackendError, BackendUnavailable, PermissionDenied

__all__ = ["CHANGED", "GONE", "OUT_OF_REACH", "RAISED", "translated"]

RAISED = (kz.KazooException, KazooTimeoutError)
"""Everything that a request may raise."""
OUT_OF_REACH = (kz.ConnectionLoss, kz.ConnectionClosedError, kz.OperationTimeoutError,
                kz.SessionExpiredError, kz.SessionMovedError, KazooTimeoutError)  # fmt: skip
"""After these another server, or the same one later, may answer. What was sent may be done."""
GONE = (kz.SessionExpiredError, kz.SessionMovedError)
"""The session that the request was sent in is not ours any more."""
CHANGED = (kz.BadVersionError, kz.NoNodeError, kz.NodeExistsError, kz.NotEmptyError)
"""A transaction was refused because something is not as it was read."""
_DENIED = (kz.NoAuthError, kz.AuthFailedError, kz.InvalidACLError)


def translated(error: BaseException, where: str) -> BackendError:
    """Return it as an error of leadertag's, to be raised ``from`` the original."""
    if isinstance(error, KazooTimeoutError | kz.OperationTimeoutError):
        return BackendUnavailable(f"{where}: no answer in time")
    if isinstance(error, OUT_OF_REACH):
        return BackendUnavailable(f"{where}: the connection was lost")
    if isinstance(error, _DENIED):
        return PermissionDenied(f"{where}: permission denied; look at user, password and the ACLs")
    reason = " ".join(str(error).split()) or type(error).__name__
    return BackendError(f"{where}: {reason[:200]}")
