"""Instances and checks as Consul's catalog and agent describe them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from leadertag.model import Check, Gate, Health, Instance
from leadertag_consul.backend import Node

OWN_PREFIX = "leadertag:"
"""Ids of leadertag's own checks begin with it."""
OWN_OUTPUT = "leadertag: "
"""The output of ``leadertag check`` begins with it, whatever its check is called."""
_HEALTH = {"passing": Health.PASSING, "warning": Health.WARNING, "critical": Health.CRITICAL}
LATCH = ":latch"
"""What the id of a gate's second check has after that of the first."""


def check_of(raw: Mapping[str, Any], own_checks: Collection[str]) -> Check:
    """Make a check of what Consul answers. Maintenance is a critical check like any other."""
    check_id = str(raw["CheckID"])
    own = (
        check_id.startswith(OWN_PREFIX)
        or check_id in own_checks
        or str(raw.get("Output") or "").startswith(OWN_OUTPUT)
    )
    return Check(check_id, _HEALTH.get(raw["Status"], Health.UNKNOWN), own)


def instance_of(
    node: Node, service: Mapping[str, Any], checks: Iterable[Mapping[str, Any]],
    own_checks: Collection[str],
) -> Instance:  # fmt: skip
    """Make an instance of a service and the checks that bear on it: its own and the node's.

    Only the service's tags count: those in its checks go stale.
    """
    found = tuple(sorted((check_of(raw, own_checks) for raw in checks), key=lambda check: check.id))
    # A latch without its alias is a gate too: what a process left that died in between.
    ids = (check.id.removesuffix(LATCH) for check in found)
    gates = [term for name in ids if (term := Gate.term_of(name)) is not None]
    return Instance(
        id=str(service["ID"]),
        node=node.name,
        service=str(service["Service"]),
        address=str(service.get("Address") or node.address),
        port=int(service.get("Port") or 0),
        tags=tuple(service.get("Tags") or ()),
        checks=found,
        gate=max(gates, default=None),
        meta=dict(service.get("Meta") or {}),
    )


def instances_of(
    entries: Sequence[Mapping[str, Any]] | None, own_checks: Collection[str]
) -> tuple[Instance, ...]:
    """Make the instances of a health answer (also of a query's result)."""
    return tuple(
        instance_of(node_of(entry["Node"]), entry["Service"], entry["Checks"] or (), own_checks)
        for entry in entries or ()
    )


def node_of(raw: Mapping[str, Any]) -> Node:
    """Make a node of what the catalog answers."""
    return Node(str(raw["Node"]), str(raw["Address"]))


def bearing_on(service_id: str, checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the checks of that service and those of the node itself."""
    return [raw for raw in checks if raw.get("ServiceID") in ("", service_id)]
