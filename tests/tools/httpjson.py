"""JSON over HTTP with the standard library alone: the servers are asked as they answer.

The tests do not use leadertag's own clients to look at a server; a fault in them
would hide itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

Params = Mapping[str, Any]  # values: text, numbers, or lists of these
Answer = tuple[Any, dict[str, str]]  # what json.loads made of the body; headers, lower case


class HttpError(OSError):
    """The server answered with an error status. An OSError, so that polls go on."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body.strip()}")
        self.status = status
        self.body = body


class JsonClient:
    """Requests to one address; each has a connection of its own.

    `abort` ends the requests under way from another thread, blocking reads included.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        split = urlsplit(address)
        self._host, self._port = split.hostname or "", split.port or 80
        self._token = token
        self._mutex = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Params | None = None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """One request. `body` is sent as JSON, or as it is when it is bytes.

        An answer that is no JSON comes back as text. Raises HttpError for a status of
        400 and above (404 too), another OSError when the server cannot be reached.
        """
        target = f"{path}?{urlencode(params, doseq=True)}" if params else path
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        used = token if token is not None else self._token
        headers = {"X-Consul-Token": used} if used else {}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        with self._mutex:
            self._open.add(connection)
        try:
            connection.request(method, target, payload, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (http.client.HTTPException, ValueError, AttributeError) as error:
            # `abort` closes the connection under the reader: any of these may follow.
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            with self._mutex:
                self._open.discard(connection)
            connection.close()
        if response.status >= 400:
            raise HttpError(method, path, response.status, text)
        return _parse(text), {name.lower(): value for name, value in response.getheaders()}

    def abort(self) -> None:
        """Ends every request under way with a ConnectionError in its own thread."""
        with self._mutex:
            sockets = [c.sock for c in self._open if c.sock is not None]
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
