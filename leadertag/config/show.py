"""The merged configuration, to be shown: complete, with defaults, without secrets."""

from __future__ import annotations

from typing import Any

from leadertag.config.secrets import masked
from leadertag.config.settings import (
    CheckSettings,
    ElectionSettings,
    HookSettings,
    InstanceSettings,
    Settings,
)
from leadertag.config.toml import seconds
from leadertag.model import QueryDefinition


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as they could stand in a file, secrets masked."""
    return {
        "lock": settings.lock,
        "registry": settings.registry,
        "query": settings.query,
        "state_dir": settings.state_dir,
        **({"watchdog": settings.watchdog} if settings.watchdog else {}),
        "backends": {
            name: masked("", dict(backend)) for name, backend in settings.backends.items()
        },
        "elections": {election.name: _election(election) for election in settings.elections},
    }


def _election(election: ElectionSettings) -> dict[str, Any]:
    data: dict[str, Any] = {
        "service": election.service,
        "service_id": election.instance_id,
        "query": election.query,
        "tags": list(election.tags),
        "leader_tag": election.leader_tag,
        "follower_tag": election.follower_tag,
        "lease": seconds(election.lease),
        "on_backend_loss": election.on_backend_loss,
        "on_stop": election.on_stop,
        "compat": election.compat,
        "stand_back": seconds(election.stand_back),
        "query_options": _query(election.query_definition) if election.query_definition else {},
        "hooks": [_hook(hook) for hook in election.hooks],
        "instance": _instance(election.instance) if election.instance else {},
    }
    # Where nothing is the default, an empty value says nothing.
    return {key: value for key, value in data.items() if value not in ("", [], {})}


def _query(query: QueryDefinition) -> dict[str, Any]:
    data = {
        "only_passing": query.only_passing,
        "near": query.near,
        "failover_nearest": query.failover_nearest,
        "failover_datacenters": list(query.failover_datacenters),
        "dns_ttl": query.dns_ttl,
        "service_meta": dict(query.service_meta),
        "node_meta": dict(query.node_meta),
    }
    return {key: value for key, value in data.items() if value not in ("", [], {})}


def _hook(hook: HookSettings) -> dict[str, Any]:
    events = sorted(hook.events) if hook.events is not None else list(hook.timeouts)
    data: dict[str, Any] = {"use": hook.use}
    if hook.events is not None:
        data["events"] = [str(event) for event in events]
    data["timeout"] = {str(event): seconds(hook.timeouts[event]) for event in events}
    return {**data, **masked("", dict(hook.options))}


def _instance(instance: InstanceSettings) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "tags": list(instance.tags),
    }
    if instance.meta:
        data["meta"] = dict(instance.meta)
    if instance.check:
        data["check"] = _check(instance.check)
    return data


def _check(check: CheckSettings) -> dict[str, Any]:
    target: Any = list(check.target) if check.kind == "command" else check.target[0]
    return {
        check.kind: target,
        "interval": seconds(check.interval),
        "timeout": seconds(check.timeout),
    }
