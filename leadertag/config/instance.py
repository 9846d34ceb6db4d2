"""``[elections.NAME.instance]``: the own instance, for registries that do not know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadertag.config.settings import CheckSettings, InstanceSettings
from leadertag.config.table import Table
from leadertag.config.values import checked_name, has_tag, host_port, positive, tags
from leadertag.errors import ConfigError

_KINDS = ("tcp", "http", "command")


def read_instance(table: Table, election: Mapping[str, Any]) -> InstanceSettings:
    """Read and check it. ``election`` are the fields of the election that it belongs to."""
    settings = InstanceSettings(
        id=_id(table, election),
        address=_address(table),
        port=table.integer("port", low=1, high=65535),
        tags=_tags(table, election),
        meta=table.mapping("meta", {}),
        check=_check(table.table("check")) if "check" in table else None,
    )
    table.raw("check", None)
    table.done()
    return settings


def _id(table: Table, election: Mapping[str, Any]) -> str:
    named = election["instance_id"]
    value = table.text("id", named or election["service"])
    checked_name(value, f"{table.where}: id")
    if named and value != named:
        raise ConfigError(
            f"{table.where}: id = {value!r}, but the election's service_id = {named!r}: "
            "one of them is enough"
        )
    return value


def _address(table: Table) -> str:
    value = table.text("address")
    if not value.strip() or not value.isprintable() or " " in value:
        raise ConfigError(f"{table.where}: address = {value!r} is no address")
    return value


def _tags(table: Table, election: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the tags; by default those that the query asks for."""
    asked = tuple(tag for tag in election["tags"] if not tag.startswith("!"))
    found = tags(table, "tags", asked)
    for role in ("leader_tag", "follower_tag"):
        if has_tag(found, election[role]):
            raise ConfigError(
                f"{table.where}: tags contains the {role} {election[role]!r}: only an "
                "election gives it"
            )
    for tag in asked:
        if not has_tag(found, tag):
            raise ConfigError(
                f"{table.where}: tags lacks {tag!r}, which the query asks for: it never answers"
            )
    return found


def _check(table: Table) -> CheckSettings:
    given = [kind for kind in _KINDS if kind in table]
    if len(given) != 1:
        raise ConfigError(f"{table.where}: give exactly one of tcp, http, command")
    kind = given[0]
    settings = CheckSettings(
        kind=kind,
        target=_target(table, kind),
        interval=positive(table, "interval", 1.0),
        timeout=positive(table, "timeout", 1.0),
    )
    for other in _KINDS:
        table.raw(other, None)
    table.done()
    return settings


def _target(table: Table, kind: str) -> tuple[str, ...]:
    if kind == "command":
        if isinstance(table.raw(kind), str):
            raise ConfigError(
                f"{table.where}: command is run without a shell, write a list: "
                'command = ["/usr/bin/program", "argument"]'
            )
        command = table.texts(kind)
        if not command or not command[0] or any("\0" in word for word in command):
            raise ConfigError(f"{table.where}: command names no program")
        return command
    value = table.text(kind)
    if kind == "tcp":
        return (host_port(value, f"{table.where}: tcp"),)
    if not value.startswith(("http://", "https://")) or not value.isprintable() or " " in value:
        raise ConfigError(f"{table.where}: http must be a URL like http://127.0.0.1:8080/health")
    return (value,)
