"""What Consul's answers look like, as data: anything else is no answer of Consul's.

Between leadertag and the agent there may be a proxy, a cache, a captive portal, or another
program on the agent's port. What it says is refused here, at the border, so that nothing
above ever takes an empty page for "the key does not exist" (promise I7), and no reader has
to expect a list where Consul has an object.

Tried out against Consul 1.8.7; fields that newer servers add are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = Callable[[Any], bool]
"""Tells whether a decoded answer looks like that."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_LARGEST = 2**64


# -- what shapes are made of -----------------------------------------------------------


def text(value: Any) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


def number(value: Any) -> bool:
    """Whether it is one of Go's unsigned integers: no bool, no float, nothing endless."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def coded(value: Any) -> bool:
    """Whether it is bytes as Go writes them in JSON: padded base64, or null for none."""
    return value is None or (
        isinstance(value, str) and not len(value) % 4 and bool(_BASE64.fullmatch(value))
    )


def maybe(shape: Shape) -> Shape:
    """Return the shape of what may be null: Go's empty lists and maps often are."""
    return lambda value: value is None or shape(value)


def each(shape: Shape) -> Shape:
    """Return the shape of a list."""
    return lambda value: isinstance(value, list) and all(map(shape, value))


def some(shape: Shape) -> Shape:
    """Return the shape of a list that is not empty: for nothing, Consul answers 404 here."""
    return lambda value: bool(value) and each(shape)(value)


def table(shape: Shape) -> Shape:
    """Return the shape of an object whose values look alike."""
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def record(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """Return the shape of an object with these fields, and with any others."""
    needed, known = tuple(required.items()), tuple((optional or {}).items())

    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and all(name in value and shape(value[name]) for name, shape in needed)
            and all(shape(value[name]) for name, shape in known if name in value)
        )

    return fits


# -- what Consul has -------------------------------------------------------------------

_TAGS, _META = maybe(each(text)), maybe(table(text))
PAIR = record({"Key": text, "ModifyIndex": number, "Value": coded},
              {"Session": text, "Flags": number})  # fmt: skip
NODE = record({"Node": text, "Address": text})
SERVICE = record({"ID": text, "Service": text, "Tags": _TAGS, "Port": number, "Address": text},
                 {"Meta": _META})  # fmt: skip
REGISTRATION = record({
    # All that leadertag would lose by writing back an answer that lacks it.
    "ID": text, "Service": text, "Tags": _TAGS, "Meta": _META, "Port": number, "Address": text,
    "Weights": table(number), "EnableTagOverride": flag, "ContentHash": text,
})  # fmt: skip
CHECK = record({"Node": text, "CheckID": text, "Status": text, "ServiceID": text,
                "ServiceName": text}, {"Output": text})  # fmt: skip
ENTRY = record({"Node": NODE, "Service": SERVICE, "Checks": maybe(each(CHECK))})
QUERY = record(
    {
        "ID": text, "Name": text,
        "Service": record({"Service": text}, {
            "Tags": _TAGS, "OnlyPassing": flag, "Near": text, "ServiceMeta": _META,
            "NodeMeta": _META,
            "Failover": maybe(record({}, {"NearestN": number, "Datacenters": _TAGS})),
        }),
    },
    {
        "Token": text, "Session": text, "Template": maybe(record({}, {"Type": text})),
        "DNS": maybe(record({}, {"TTL": text})),
    },
)  # fmt: skip
OUTCOME = record({}, {
    "Results": maybe(each(record({}, {"KV": maybe(PAIR)}))),
    "Errors": maybe(each(record({"OpIndex": number, "What": text}))),
})  # fmt: skip

ANSWERS: Sequence[tuple[str, re.Pattern[str], Shape]] = tuple(
    (method, re.compile(path), shape)
    for method, path, shape in (
        ("GET", r"/v1/kv/.*", some(PAIR)),
        ("PUT", r"/v1/txn", OUTCOME),
        ("PUT", r"/v1/session/create", record({"ID": text})),
        ("PUT", r"/v1/session/renew/.*", some(record({"ID": text, "Node": text}))),
        ("GET", r"/v1/health/service/.*", each(ENTRY)),
        ("GET", r"/v1/health/(node|checks)/.*", each(CHECK)),
        ("GET", r"/v1/catalog/node/.*", maybe(record({"Node": NODE, "Services": table(SERVICE)}))),
        ("GET", r"/v1/agent/services", table(SERVICE)),
        ("GET", r"/v1/agent/service/.*", REGISTRATION),
        ("GET", r"/v1/agent/checks", table(CHECK)),
        ("GET", r"/v1/agent/self", record({"Config": record({"NodeName": text}),
                                           "Member": record({"Addr": text})})),
        ("GET", r"/v1/query", maybe(each(QUERY))),
        ("GET", r"/v1/query/.*/execute", record({"Nodes": maybe(each(ENTRY))})),
    )
)  # fmt: skip
"""What is answered to which request. What is not listed is not looked at."""

INDEXED = re.compile(r"/v1/(kv|health|catalog)/.*")
"""Reads that Consul always answers with X-Consul-Index, also with 404: others do not."""

MISSING: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(path), words)
    for path, words in (
        (r"/v1/kv/.*", ""),
        (r"/v1/session/renew/.*", "Session id"),
        (r"/v1/agent/service/.*", "ervice ID"),
        (r"/v1/agent/check/(deregister|pass)/.*", "heck"),
        (r"/v1/query.*", "uery not found"),
    )
)
"""Where Consul answers 404, and the words of it that a stranger's page does not have."""


def looks_right(method: str, path: str, data: Any) -> bool:
    """Whether a decoded answer is one that Consul gives to that request."""
    fitting = (s for m, pattern, s in ANSWERS if m == method and pattern.fullmatch(path))
    shape = next(fitting, None)
    return shape is None or shape(data)


def says_missing(path: str, said: str) -> bool:
    """Whether a 404 with that text means that there is nothing, in Consul's own words."""
    return any(pattern.fullmatch(path) and words in said for pattern, words in MISSING)
