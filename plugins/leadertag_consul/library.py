"""The client library, python-consul2 or py-consul: the same import name, two dialects.

What differs between them stands here and nowhere else. Neither may read the environment
(their constructors do, wrongly), nor load ``requests`` for a transport that is not used.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from leadertag.errors import PluginBroken

_mutex = threading.Lock()
_loaded: list[Any] = []

Send = Callable[[str, str, Any, Any], tuple[int, Any, bytes]]
"""Method, path, parameters, body; returns status, headers, body. Raises translated errors."""


class _LaterRequests(ModuleType):
    """Stands for ``requests`` while ``consul`` is imported, and in ``consul.std`` afterwards.

    The library imports it for its own transport: half of its import time, and never used
    here. Whoever does use that transport gets the real module at the first look-up.
    """

    Response = object  # py-consul imports the name, for an annotation only

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import machinery, not by a user
            raise AttributeError(name)
        return getattr(importlib.import_module("requests"), name)


def load() -> Any:
    """Return the package ``consul``; PluginBroken when neither library is installed."""
    with _mutex:
        if not _loaded:
            _loaded.append(_import())
        return _loaded[0]


def _import() -> Any:
    if "consul" in sys.modules or "requests" in sys.modules:
        return _import_plainly()
    stand_in = _LaterRequests("requests")
    sys.modules["requests"] = stand_in
    try:
        return _import_plainly()
    finally:
        if sys.modules.get("requests") is stand_in:
            del sys.modules["requests"]


def _import_plainly() -> Any:
    try:
        return importlib.import_module("consul")
    except ImportError as error:
        raise PluginBroken(
            "the Consul backend needs python-consul2 or py-consul: "
            f"pip install 'leadertag[consul]' ({error})"
        ) from error


def connect(send: Send, datacenter: str) -> Any:
    """Return the library's ``Consul`` on a transport of our own."""
    load()
    base = importlib.import_module("consul.base")
    http = _http_client(base, send)

    class Consul(base.Consul):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            # Not super().__init__(): it reads CONSUL_* and lets them win over arguments.
            self.http = http
            self.token = None
            self.scheme = "http"
            self.consistency = "default"
            self.dc = datacenter or None
            self.agent = _endpoint(base, "Agent")(self)
            self.session = _endpoint(base, "Session")(self)
            self.query = _endpoint(base, "Query")(self)

    return Consul()


def _endpoint(base: Any, name: str) -> Any:
    # python-consul2 nests its endpoints in the class, py-consul has them beside it.
    return getattr(base.Consul, name, None) or getattr(base, name)


def _http_client(base: Any, send: Send) -> Any:
    fields = base.Response._fields  # python-consul2 has one more: content

    class HTTPClient(base.HTTPClient):  # type: ignore[misc]
        def _call(self, callback: Any, method: str, path: str, params: Any, data: Any) -> Any:
            code, headers, body = send(method, path, params, data)
            text = body.decode("utf-8", "replace")
            known = {"code": code, "headers": headers, "body": text, "content": body}
            return callback(base.Response(*(known[field] for field in fields)))

        def get(
            self, callback: Any, path: str, params: Any = None, headers: Any = None,
            raw: bool = False,
        ) -> Any:  # fmt: skip
            return self._call(callback, "GET", path, params, None)

        def put(
            self, callback: Any, path: str, params: Any = None, data: Any = "",
            headers: Any = None,
        ) -> Any:  # fmt: skip
            return self._call(callback, "PUT", path, params, data)

        def delete(
            self, callback: Any, path: str, params: Any = None, data: Any = "",
            headers: Any = None,
        ) -> Any:  # fmt: skip
            return self._call(callback, "DELETE", path, params, data)

        def post(
            self, callback: Any, path: str, params: Any = None, data: Any = "",
            headers: Any = None,
        ) -> Any:  # fmt: skip
            return self._call(callback, "POST", path, params, data)

        def close(self) -> None:
            """The pool belongs to the backend."""

    return HTTPClient()
