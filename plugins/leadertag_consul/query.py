"""Prepared queries: the stable name over DNS and HTTP that answers with the leader.

An existing query is changed in place, never deleted and made anew: its name keeps
answering, and two configurations that share it do not fight over its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from leadertag.errors import Conflict, NotRegistered, PermissionDenied
from leadertag.model import Characteristic, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider
from leadertag_consul.backend import Backend
from leadertag_consul.client import Refused
from leadertag_consul.instances import instances_of

_HIDDEN = "<hidden>"  # what Consul shows of a query's token to those who may not see it


class ConsulQuery(QueryProvider):
    """The prepared queries of a Consul datacenter."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {Characteristic.CROSS_HOST, Characteristic.HEALTH, Characteristic.DNS}
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def ensure(self, definition: QueryDefinition) -> bool:
        """Create the query, or update it in place where it drifted; tell if it did.

        Names are unique without regard to case. Of several members that create it at
        once one wins; the others find it then.
        """
        found = self._find(definition.name)
        if found is None:
            try:
                self._client.post("/v1/query", _body(definition, {}))
                return True
            except Refused as refused:
                if "aliases an existing query name" not in refused.text:
                    raise
                found = self._find(definition.name)
                if found is None:
                    raise PermissionDenied(
                        f"query {definition.name!r} exists, but cannot be read: the token "
                        f'needs query "{definition.name}" {{ policy = "write" }}'
                    ) from refused
        return self._update(definition, found)

    def _update(self, wanted: QueryDefinition, found: Mapping[str, Any]) -> bool:
        service = str(found["Service"]["Service"])
        if service != wanted.service:
            raise Conflict(
                f"query {found['Name']!r} asks for service {service!r}, not {wanted.service!r}: "
                "choose another name, or remove that query"
            )
        if _same(_definition(found), wanted) and not _is_template(found):
            return False
        if found.get("Token") == _HIDDEN:
            raise Conflict(
                f"query {found['Name']!r} differs and carries a token that may not be read: "
                "change it by hand, or remove it"
            )
        self._client.put(f"/v1/query/{found['ID']}", _body(wanted, found))
        return True

    def resolve(self, name: str) -> tuple[Instance, ...]:
        """Execute the query; raises NotRegistered for an unknown name."""
        answer = self._client.get(f"/v1/query/{name}/execute")
        if not answer.found:
            raise NotRegistered(f"no query {name!r} at {self._backend.settings.address}")
        return instances_of(answer.data["Nodes"], self._backend.own_checks)

    def remove(self, name: str) -> None:
        """Remove the query; an unknown name is no error."""
        found = self._find(name)
        if found is not None:
            self._client.verb(lambda consul: consul.query.delete(found["ID"]))

    def list(self) -> tuple[QueryDefinition, ...]:
        """Return the queries that have a name and are no templates."""
        return tuple(
            _definition(found)
            for found in self._all()
            if found.get("Name") and not _is_template(found)
        )

    def _find(self, name: str) -> Mapping[str, Any] | None:
        folded = name.casefold()
        named = (found for found in self._all() if str(found.get("Name")).casefold() == folded)
        return next(named, None)

    def _all(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self._client.verb(lambda consul: consul.query.list()) or ())


def _is_template(found: Mapping[str, Any]) -> bool:
    return bool((found.get("Template") or {}).get("Type"))


def _definition(found: Mapping[str, Any]) -> QueryDefinition:
    service = found["Service"]
    failover = service.get("Failover") or {}
    return QueryDefinition(
        name=str(found["Name"]),
        service=str(service["Service"]),
        tags=tuple(service.get("Tags") or ()),
        only_passing=bool(service.get("OnlyPassing")),
        near=str(service.get("Near") or ""),
        failover_nearest=int(failover.get("NearestN") or 0),
        failover_datacenters=tuple(failover.get("Datacenters") or ()),
        dns_ttl=str((found.get("DNS") or {}).get("TTL") or ""),
        service_meta=dict(service.get("ServiceMeta") or {}),
        node_meta=dict(service.get("NodeMeta") or {}),
    )


def _same(found: QueryDefinition, wanted: QueryDefinition) -> bool:
    """Whether both ask the same: names without case, tags in any order."""
    return _comparable(found) == _comparable(wanted)


def _comparable(definition: QueryDefinition) -> tuple[object, ...]:
    return (
        definition.name.casefold(),
        definition.service,
        frozenset(definition.tags),
        definition.only_passing,
        definition.near,
        definition.failover_nearest,
        definition.failover_datacenters,
        definition.dns_ttl,
        dict(definition.service_meta),
        dict(definition.node_meta),
    )


def _body(wanted: QueryDefinition, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query's body; what leadertag has no word for stays as it was found."""
    service = {
        **(found.get("Service") or {}),
        "Service": wanted.service,
        "Tags": sorted(set(wanted.tags)),
        "OnlyPassing": wanted.only_passing,
        "Near": wanted.near,
        "Failover": {
            "NearestN": wanted.failover_nearest,
            "Datacenters": list(wanted.failover_datacenters),
        },
        "ServiceMeta": dict(wanted.service_meta),
        "NodeMeta": dict(wanted.node_meta),
    }
    body = {"Name": wanted.name, "Service": service, "DNS": {"TTL": wanted.dns_ttl}}
    for kept in ("Session", "Token"):
        if found.get(kept):
            body[kept] = found[kept]
    return body
