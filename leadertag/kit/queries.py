"""A query's definition as bytes, and which instances it answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from leadertag.decoding import WRONG, are_texts, is_number, is_text_map
from leadertag.model import Health, Instance, QueryDefinition

_LISTS = ("tags", "failover_datacenters")


def encode_definition(definition: QueryDefinition) -> bytes:
    """Return the JSON bytes kept in the backend."""
    return json.dumps({"leadertag": 1, **asdict(definition)}, separators=(",", ":")).encode()


def decode_definition(raw: bytes) -> QueryDefinition | None:
    """Return the definition, ``None`` for anything that is not one of ours."""
    try:
        data: dict[str, Any] = json.loads(raw)
        if data["leadertag"] != 1:
            return None
        known: dict[str, Any] = {one.name: data[one.name] for one in fields(QueryDefinition)}
        if not _is_typed(known):
            return None
        known.update({name: tuple(known[name]) for name in _LISTS})
        return QueryDefinition(**known)
    except WRONG:
        return None


def _is_typed(known: Mapping[str, Any]) -> bool:
    return (
        are_texts([known["name"], known["service"], known["near"], known["dns_ttl"]])
        and all(are_texts(known[name]) for name in _LISTS)
        and is_text_map(known["service_meta"])
        and is_text_map(known["node_meta"])
        and is_number(known["failover_nearest"])
        and isinstance(known["only_passing"], bool)
    )


def comparable(definition: QueryDefinition) -> QueryDefinition:
    """Return a form that is equal for definitions that ask the same."""
    return replace(
        definition,
        tags=tuple(sorted(set(definition.tags))),
        service_meta=dict(definition.service_meta),
        node_meta=dict(definition.node_meta),
    )


def answers(definition: QueryDefinition, instance: Instance, node_meta: Mapping[str, str]) -> bool:
    """Whether an instance has every tag and no negated one, and is well enough.

    As Consul does it: passing ones only, or, without ``only_passing``, all but the critical.
    """
    if instance.health is Health.CRITICAL or (definition.only_passing and not instance.passing):
        return False
    if not definition.service_meta.items() <= instance.meta.items():
        return False
    if not definition.node_meta.items() <= node_meta.items():
        return False
    return all(
        tag[1:] not in instance.tags if tag.startswith("!") else tag in instance.tags
        for tag in definition.tags
    )
