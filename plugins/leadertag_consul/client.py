"""The one client of a process: requests and transactions, with errors of our own tree."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from leadertag.errors import BackendError, BackendUnavailable, PermissionDenied
from leadertag_consul import library, shapes
from leadertag_consul.files import Files
from leadertag_consul.settings import ConsulSettings
from leadertag_consul.transport import RawAnswer, Transport

T = TypeVar("T")

POOL = 8
"""Connections at most for everything that does not block; the agent's own limit is 200."""
TXN_LIMIT = 64
"""Operations in one transaction: Consul's limit."""


class Refused(BackendUnavailable):
    """The server answered with an error of its own (5xx, 429). ``text`` is what it said."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer. ``index`` is X-Consul-Index, 0 where there is none; 404 has no data."""

    status: int
    index: int
    data: Any

    @property
    def found(self) -> bool:
        """Whether there was anything at that path."""
        return self.status != 404


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: all of it happened (``results``) or nothing did."""

    results: Sequence[Mapping[str, Any]] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    """Number of the operation -> why it was refused. Empty means committed."""

    @property
    def committed(self) -> bool:
        """Whether all of it happened."""
        return not self.failures

    @property
    def reasons(self) -> str:
        """The refusals on one line."""
        return "; ".join(dict.fromkeys(self.failures.values()))


class ConsulClient:
    """Requests to the agent.

    Every verb raises BackendUnavailable (no connection, no answer in time, no quorum, an
    answer cut short or no JSON), PermissionDenied, or BackendError for a refusal. 404 and
    a refused transaction are answers, not errors.
    """

    def __init__(
        self, settings: ConsulSettings, *, size: int = POOL, files: Files | None = None
    ) -> None:
        self.settings = settings
        self._files = files or Files.of(settings)
        self._token = self._files.token
        self._transport = Transport(
            settings.address, self._files.tls, timeout=settings.timeout, size=size
        )
        self._mutex = threading.Lock()
        self._library: Any = None

    def dedicated(self) -> ConsulClient:
        """Return a client with one connection of its own, for a watch."""
        return ConsulClient(self.settings, size=1, files=self._files)

    @property
    def token(self) -> str:
        """The token as it stands now; ``""`` for none."""
        return self._files.token()

    def close(self) -> None:
        """Close idle connections; the client stays usable."""
        self._transport.close()

    def abort(self) -> None:
        """End every request of this client, also those under way in other threads."""
        self._transport.abort()

    # -- requests ----------------------------------------------------------------------

    def get(self, path: str, params: Mapping[str, object] | None = None) -> Answer:
        """GET; ``wait`` and ``index`` among the parameters make it a blocking query."""
        answer = partial(self._answer, "GET", path)
        return self._http.get(answer, path, self._params(path, params))  # type: ignore[no-any-return]

    def put(
        self, path: str, body: object = None, params: Mapping[str, object] | None = None
    ) -> Answer:
        """PUT, with ``body`` as JSON."""
        data = json.dumps(body).encode() if body is not None else b""
        answer = partial(self._answer, "PUT", path)
        return self._http.put(answer, path, self._params(path, params), data=data)  # type: ignore[no-any-return]

    def post(self, path: str, body: object) -> Answer:
        """POST, with ``body`` as JSON."""
        data = json.dumps(body).encode()
        answer = partial(self._answer, "POST", path)
        return self._http.post(answer, path, self._params(path, None), data=data)  # type: ignore[no-any-return]

    def txn(self, operations: Iterable[Mapping[str, Any]], *, consistent: bool = False) -> Outcome:
        """Carry out operations all together or not at all.

        ``consistent`` makes a transaction that only reads linearizable. Raises
        PermissionDenied when one of them is refused for lack of rights.
        """
        params = {"consistent": ""} if consistent else None
        sent = list(operations)
        answer = self.put("/v1/txn", sent, params)
        errors = (answer.data or {}).get("Errors") or ()
        failures = {error["OpIndex"]: " ".join(error["What"].split()) for error in errors}
        if any("Permission denied" in why for why in failures.values()):
            raise PermissionDenied(self._denied("PUT", "/v1/txn"))
        if answer.status == 409 and not failures:
            raise BackendUnavailable(f"Consul at {self.settings.address}: refused without a reason")
        outcome = Outcome((answer.data or {}).get("Results") or (), failures)
        if not _belongs(outcome, sent):
            raise self._unusable("PUT", "/v1/txn", "what it answers is about another transaction")
        return outcome

    def verb(self, call: Callable[[Any], T]) -> T | None:
        """Use one of the library's own verbs; ``None`` where it says not found."""
        consul = library.load()
        try:
            return call(self.consul)
        except consul.NotFound:
            return None
        except (
            consul.ConsulException,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise BackendUnavailable(
                f"Consul at {self.settings.address}: unusable answer: {_line(str(error))}"
            ) from error

    @property
    def consul(self) -> Any:
        """The library's client object, on this client's connections."""
        with self._mutex:
            if self._library is None:
                self._library = library.connect(self._send, self.settings.datacenter)
            return self._library

    @property
    def _http(self) -> Any:
        return self.consul.http

    def _params(self, path: str, params: Mapping[str, object] | None) -> list[tuple[str, object]]:
        found = list((params or {}).items())
        if self.settings.datacenter and not path.startswith("/v1/agent/"):
            found.append(("dc", self.settings.datacenter))
        return found

    # -- what the library's transport calls ------------------------------------------------

    def _send(self, method: str, path: str, params: Any, data: Any) -> tuple[int, Any, bytes]:
        pairs = list(params.items() if isinstance(params, Mapping) else params or ())
        target = quote(path, safe="/:")
        if pairs:
            target = f"{target}?{urlencode(pairs)}"
        body = data.encode() if isinstance(data, str) else data
        raw = self._transport.request(method, target, self._headers(), body, _patience(pairs))
        if raw.status >= 400 and raw.status not in (404, 409):
            self._raise(method, path, raw.status, raw.body.decode("utf-8", "replace"))
        if raw.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
            # Newer servers tell when they left something out: not the whole truth.
            raise PermissionDenied(self._denied(method, path))
        self._refuse_strangers(method, path, raw)
        return raw.status, raw.headers, raw.body

    def _refuse_strangers(self, method: str, path: str, raw: RawAnswer) -> None:
        """Raise BackendUnavailable for what a proxy or another program says, and not Consul."""
        if "html" in str(raw.headers.get("Content-Type")):
            raise self._unusable(method, path, f"{raw.status} with an HTML page")
        if raw.status == 404:
            known = shapes.says_missing(path, raw.body.decode("utf-8", "replace"))
        else:
            known = 200 <= raw.status < 300 or (raw.status == 409 and path == "/v1/txn")
        if not known:
            raise self._unusable(method, path, f"Consul does not answer {raw.status} to that")
        if method == "GET" and shapes.INDEXED.fullmatch(path) and not _index(raw.headers):
            raise self._unusable(method, path, "the answer has no X-Consul-Index")
        if _BY_LIBRARY.fullmatch(path) and raw.status < 300:
            self._decode(method, path, raw.body)

    def _answer(self, method: str, path: str, response: Any) -> Answer:
        """Make an Answer of the library's Response."""
        if response.code == 404:
            return Answer(404, _index(response.headers), None)
        data = self._decode(method, path, response.body)
        return Answer(response.code, _index(response.headers), data)

    def _decode(self, method: str, path: str, body: str | bytes) -> Any:
        try:
            data = json.loads(body) if body.strip() else None
        except (ValueError, RecursionError) as error:
            raise BackendUnavailable(
                f"Consul at {self.settings.address} answered what is no JSON: {_line(str(error))}"
            ) from error
        if not shapes.looks_right(method, path, data):
            raise self._unusable(method, path, "the answer does not look like Consul's")
        return data

    def _unusable(self, method: str, path: str, why: str) -> BackendUnavailable:
        return BackendUnavailable(f"Consul at {self.settings.address}: {method} {path}: {why}")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if token := self._token():
            headers["X-Consul-Token"] = token
        if self.settings.http_auth:
            coded = base64.b64encode(self.settings.http_auth.encode()).decode()
            headers["Authorization"] = f"Basic {coded}"
        return headers

    def _raise(self, method: str, path: str, status: int, text: str) -> None:
        line = _line(text)
        if "ACL not found" in text:
            raise PermissionDenied(
                f"{method} {path} at {self.settings.address}: Consul does not know the token"
            )
        if status in (401, 403) or "Permission denied" in text:
            raise PermissionDenied(self._denied(method, path))
        message = f"Consul at {self.settings.address}: {method} {path}: {status} {line}"
        if status >= 500 or status == 429:
            raise Refused(message, text)
        raise BackendError(message)

    def _denied(self, method: str, path: str) -> str:
        rule = next((rule for start, rule in _RULES if path.startswith(start)), "more rights")
        token = "the token" if self._token() else "no token is set; one"
        prefix = f"{self.settings.prefix}/"
        key = path.removeprefix("/v1/kv/")
        if key != path and not key.startswith(prefix):
            prefix = key  # the predecessor's lock
        needed = rule.format(prefix=prefix)
        where = f"{method} {path} at {self.settings.address}"
        return f"{where}: permission denied: {token} needs {needed}"


_RULES = (
    ("/v1/kv/", 'key_prefix "{prefix}" {{ policy = "write" }}'),
    ("/v1/txn", 'key_prefix "{prefix}" and service "<name>" with policy = "write"'),
    ("/v1/session/", 'session "<node>" {{ policy = "write" }}'),
    ("/v1/agent/self", 'agent "<node>" {{ policy = "read" }} (or set node)'),
    ("/v1/agent/check/", 'service "<name>" and service "leadertag" with policy = "write"'),
    (
        "/v1/agent/service/register",
        'service "<name>" and service "leadertag" with policy = "write"',
    ),
    ("/v1/agent/service", 'service "<name>" {{ policy = "write" }}'),
    ("/v1/query", 'query "<name>" {{ policy = "write" }}'),
    ("/v1/health/", 'service "<name>" and node_prefix "" with policy = "read"'),
    ("/v1/catalog/", 'service "<name>" and node_prefix "" with policy = "read"'),
)
"""Which ACL rule a path needs: the first that fits. Tried out against Consul 1.8.7."""


_BY_LIBRARY = re.compile(r"/v1/session/renew/.*|/v1/query")
"""Answers that the library decodes: looked at here before it hands them on."""


def _belongs(outcome: Outcome, sent: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a transaction's outcome is about those operations.

    Consul answers a committed one with each key that it has read, compared or written.
    """
    if not outcome.committed:
        return max(outcome.failures) < len(sent)
    asked = [one["KV"] for one in sent if "KV" in one]
    pairs = [result["KV"] for result in outcome.results if result.get("KV")]
    wanted = [one["Key"] for one in asked if one["Verb"] != "check-not-exists"]
    found = [pair["Key"] for pair in pairs]
    whole = len(asked) < len(sent) or len(pairs) == len(outcome.results)
    return whole and set(wanted) <= set(found) and wanted[-1:] == found[-1:]


def _index(headers: Any) -> int:
    """Return X-Consul-Index, 0 for none and for what is no index."""
    text = headers.get("X-Consul-Index") or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _patience(pairs: Sequence[tuple[str, Any]]) -> float:
    """Return the seconds that a blocking query may take by itself: Consul adds up to 1/16."""
    wait = dict(pairs).get("wait")
    if not wait:
        return 0.0
    return float(str(wait).removesuffix("ms")) / 1000 * (1 + 1 / 16)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
