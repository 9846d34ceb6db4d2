"""The registry's watches: the own node, and a whole service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from leadertag.errors import BackendUnavailable
from leadertag.model import Instance
from leadertag_consul.backend import Backend
from leadertag_consul.blocking import BlockingRead, BlockingWatch
from leadertag_consul.client import Answer, ConsulClient
from leadertag_consul.instances import bearing_on, instance_of, instances_of, node_of


class NodeView:
    """The own instances, made of two answers: the node's services and its checks.

    Consul has no documented read that blocks on both. Two watches block on one each; when
    one is woken by something that matters, both halves are read anew, under a lock, so
    that snapshots never go back in time, and a tag and its gate, which arrive at the same
    index, are seen together.
    """

    def __init__(self, backend: Backend, wanted: frozenset[tuple[str, str]]) -> None:
        """``wanted`` has (service, id); an empty id means all instances of that service."""
        self._backend = backend
        self._wanted = wanted
        self._mutex = threading.Lock()
        self.latest: Mapping[str, Instance] | None = None
        """The newest snapshot that either watch has made."""

    def services_path(self) -> str:
        """Where the catalog has the node and its services."""
        return f"/v1/catalog/node/{self._backend.node.name}"

    def checks_path(self) -> str:
        """Where the catalog has the node's checks."""
        return f"/v1/health/node/{self._backend.node.name}"

    def part(self, data: Any) -> object:
        """Return what of one half concerns the own instances: unequal when it changed."""
        if isinstance(data, Mapping):
            return self._own(data.get("Services") or {})
        return [raw for raw in data or () if raw["ServiceID"] == "" or self._is_own(raw)]

    def _own(self, services: Mapping[str, Any]) -> dict[str, Any]:
        return {key: services[key] for key in sorted(services) if self._named(services[key], key)}

    def _named(self, service: Mapping[str, Any], service_id: str) -> bool:
        name = service["Service"]
        return (name, "") in self._wanted or (name, service_id) in self._wanted

    def _is_own(self, check: Mapping[str, Any]) -> bool:
        name = check["ServiceName"]
        return (name, "") in self._wanted or (name, check["ServiceID"]) in self._wanted

    def refresh(self) -> Mapping[str, Instance]:
        """Read both halves and return the snapshot of now."""
        with self._mutex:
            catalog = self._backend.client.get(self.services_path())
            health = self._backend.client.get(self.checks_path())
            if not catalog.data:
                raise BackendUnavailable(
                    f"node {self._backend.node.name} is not in the catalog yet, or the token "
                    'lacks node_prefix "" read'
                )
            self.latest = self._make(catalog.data, health.data or ())
            return self.latest

    def _make(self, catalog: Mapping[str, Any], checks: Any) -> Mapping[str, Instance]:
        node, services = node_of(catalog["Node"]), self._own(catalog.get("Services") or {})
        for name, service_id in self._wanted:
            if not any(raw["Service"] == name for raw in services.values()):
                # Without service:read it is left out like one that is not there; asked for
                # by its id, the agent tells the two apart (PermissionDenied).
                self._backend.client.get(f"/v1/agent/service/{service_id or name}")
        own = self._backend.own_checks
        return {
            key: instance_of(node, service, bearing_on(key, checks), own)
            for key, service in services.items()
        }


class NodeWatch(BlockingWatch):
    """One of the two watches of a :class:`NodeView`; each returns whole instances."""

    def __init__(self, client: ConsulClient, view: NodeView, path: Callable[[], str]) -> None:
        super().__init__(BlockingRead(client, path, {}))
        self._view = view
        self._part: object = None

    def _snapshot(self, answer: Answer) -> Mapping[str, Instance]:
        part = self._view.part(answer.data)
        if self._last is not None and part == self._part:
            return self._last  # something else on this node has changed
        snapshot = self._view.refresh()
        self._part = part
        return snapshot

    def _missed(self) -> Mapping[str, Instance] | None:
        # The other watch may have seen more, and have handed it on before this one did.
        latest = self._view.latest
        return latest if self._last is not None and latest != self._last else None


class MembersWatch(BlockingWatch):
    """A service with all its instances; snapshots map members' names to them."""

    def __init__(self, read: BlockingRead, own_checks: Collection[str]) -> None:
        super().__init__(read)
        self._own_checks = own_checks

    def _snapshot(self, answer: Answer) -> Mapping[str, Instance]:
        members = instances_of(answer.data, self._own_checks)
        return {instance.member: instance for instance in members}
