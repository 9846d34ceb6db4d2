"""What goes between the daemon and a worker process: JSON messages, each with its length.

JSON and not pickle: nothing that a hook sends is ever executed on the other side.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Check, Health, Instance, Role

_LENGTH = struct.Struct("!I")
_MOST = 16 * 1024 * 1024
_CHUNK = 64 * 1024

Message = dict[str, Any]


class Channel:
    """One end of a socket pair. Any thread may send; one thread receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor, to be polled for reading before :meth:`receive`."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; raises OSError when the other end is gone."""
        body = json.dumps(message, separators=(",", ":")).encode()
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> list[Message]:
        """Read once and return the messages that are now complete, possibly none.

        Raises EOFError when the other end is gone, ValueError for what is no message.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _MOST:
            raise ValueError(f"a message of {length} bytes is too long")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        try:
            message = json.loads(bytes(self._buffer[_LENGTH.size : end]))
        except RecursionError as error:
            raise ValueError("a message is nested too deeply") from error
        del self._buffer[:end]
        if not isinstance(message, dict):
            raise ValueError("a message must be an object")
        return message

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def encode_change(change: RoleChange) -> Message:
    """Return a role change as JSON data: for workers, and for commands to read."""
    return {
        "event": change.event.value,
        "election": change.election,
        "role": change.role.value,
        "previous_role": change.previous_role.value,
        "term": change.term,
        "reason": change.reason,
        "instance": _encode_instance(change.instance),
        "leader": _encode_instance(change.leader) if change.leader else None,
        "timeout": change.timeout,
    }


def decode_change(data: Mapping[str, Any]) -> RoleChange:
    """Return the role change that :func:`encode_change` wrote."""
    return RoleChange(
        event=HookEvent(data["event"]),
        election=data["election"],
        role=Role(data["role"]),
        previous_role=Role(data["previous_role"]),
        term=data["term"],
        reason=data["reason"],
        instance=_decode_instance(data["instance"]),
        leader=_decode_instance(data["leader"]) if data["leader"] else None,
        timeout=data["timeout"],
    )


def _encode_instance(instance: Instance) -> Message:
    return {
        "id": instance.id,
        "node": instance.node,
        "service": instance.service,
        "address": instance.address,
        "port": instance.port,
        "tags": list(instance.tags),
        "checks": [
            {"id": check.id, "status": check.status.value, "own": check.own}
            for check in instance.checks
        ],
        "gate": instance.gate,
        "meta": dict(instance.meta),
    }


def _decode_instance(data: Mapping[str, Any]) -> Instance:
    checks = (Check(check["id"], Health(check["status"]), check["own"]) for check in data["checks"])
    return Instance(**{**data, "tags": tuple(data["tags"]), "checks": tuple(checks)})
