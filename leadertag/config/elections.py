"""One ``[elections.NAME]`` table, and what several of them must not have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from leadertag.config.hooks import read_hook
from leadertag.config.instance import read_instance
from leadertag.config.settings import ElectionSettings
from leadertag.config.table import Table
from leadertag.config.values import (
    checked_name,
    name,
    optional_name,
    positive,
    role_tag,
    same_tag,
    tags,
)
from leadertag.errors import ConfigError
from leadertag.model import QueryDefinition

PREDECESSOR = "consul-master-election-tagger"
"""The one value of ``compat``."""
_DEFAULT = ElectionSettings("", "", "")

FIELDS: Mapping[str, Callable[[Table], Any]] = {
    "service": lambda table: name(table, "service"),
    "service_id": lambda table: optional_name(table, "service_id"),
    "query": lambda table: optional_name(table, "query"),
    "tags": lambda table: tags(table, "tags"),
    "leader_tag": lambda table: role_tag(table, "leader_tag", _DEFAULT.leader_tag),
    "follower_tag": lambda table: role_tag(table, "follower_tag", _DEFAULT.follower_tag),
    "lease": lambda table: positive(table, "lease", _DEFAULT.lease),
    "on_backend_loss": lambda table: table.choice(
        "on_backend_loss", ("demote", "hold"), _DEFAULT.on_backend_loss
    ),
    "on_stop": lambda table: table.choice("on_stop", ("release", "keep"), _DEFAULT.on_stop),
    "compat": lambda table: table.choice("compat", ("", PREDECESSOR), _DEFAULT.compat),
    "stand_back": lambda table: positive(table, "stand_back", _DEFAULT.stand_back),
}
"""How each plain key of an election is read; environment and options use the same readers."""
LISTS = frozenset({"tags"})
"""Those of them that are lists."""


def read_election(election: str, table: Table) -> ElectionSettings:
    """Read and check one election; ConfigError in one line for whatever is wrong."""
    checked_name(election, f"{table.where}: the election's name")
    fields = {key: read(table) for key, read in FIELDS.items()}
    fields["instance_id"] = fields.pop("service_id")
    _check_tags(fields, table.where)
    _check_compat(fields, table.where)
    settings = ElectionSettings(
        name=election,
        where=table.where,
        hooks=tuple(read_hook(hook) for hook in table.tables("hooks")),
        instance=read_instance(table.table("instance"), fields) if "instance" in table else None,
        query_definition=_query(table, fields),
        **fields,
    )
    table.raw("instance", None)
    table.done()
    return settings


def _check_tags(fields: Mapping[str, Any], where: str) -> None:
    leader, follower = fields["leader_tag"], fields["follower_tag"]
    if same_tag(leader, follower):
        raise ConfigError(
            f"{where}: leader_tag and follower_tag are both {leader!r}: they must differ "
            "by more than upper and lower case"
        )
    for tag in fields["tags"]:
        if same_tag(tag, leader):
            raise ConfigError(
                f"{where}: tags contains the leader tag {tag!r}, which the query asks for anyway"
            )
        if same_tag(tag, follower) or same_tag(tag, f"!{leader}"):
            raise ConfigError(f"{where}: tags contains {tag!r}: the query could never answer")


def _check_compat(fields: Mapping[str, Any], where: str) -> None:
    if not fields["compat"]:
        return
    if not fields["query"]:
        raise ConfigError(f"{where}: compat needs query: the predecessor's lock is named after it")
    if (fields["leader_tag"], fields["follower_tag"]) != ("master", "slave"):
        raise ConfigError(
            f"{where}: compat needs leader_tag = 'master' and follower_tag = 'slave': "
            "the predecessor knows no others"
        )


def _query(table: Table, fields: Mapping[str, Any]) -> QueryDefinition | None:
    options = table.table("query_options", {})
    if not fields["query"]:
        if options.keys():
            raise ConfigError(f"{table.where}: query_options without query: which query is meant?")
        return None
    if "dns_ttl" in options:
        positive(options, "dns_ttl", 0.0)
    definition = QueryDefinition(
        name=fields["query"],
        service=fields["service"],
        tags=(*fields["tags"], fields["leader_tag"]),
        only_passing=options.flag("only_passing", True),
        near=options.text("near", ""),
        failover_nearest=options.integer("failover_nearest", 0, high=1000),
        failover_datacenters=options.texts("failover_datacenters", ()),
        dns_ttl=options.text("dns_ttl", ""),
        service_meta=options.mapping("service_meta", {}),
        node_meta=options.mapping("node_meta", {}),
    )
    options.done()
    return definition


def check_conflicts(elections: Iterable[ElectionSettings]) -> None:
    """Refuse elections of one configuration that would work against each other."""
    by_key: dict[str, ElectionSettings] = {}
    by_query: dict[str, ElectionSettings] = {}
    by_tag: dict[tuple[str, str], ElectionSettings] = {}
    by_instance: dict[str, list[ElectionSettings]] = {}
    for one in elections:
        other = by_key.setdefault(one.key.casefold(), one)
        if other is not one:
            raise ConfigError(
                f"{one.where} and {other.name!r} compete for the same lock {one.key!r}: a "
                "leadertag process speaks for one member of it; remove one election, or give "
                "them different services or queries"
            )
        other = by_query.setdefault(one.query.casefold(), one) if one.query else one
        if other is not one:
            raise ConfigError(
                f"{one.where} and {other.name!r} share the query {one.query!r} for different "
                "services: give each a query of its own"
            )
        same = next((o for o in by_instance.get(one.service, ()) if _same_instance(o, one)), None)
        if same is not None:
            raise ConfigError(
                f"{one.where} and {same.name!r} elect among the same instances of {one.service!r}: "
                "a leader's gate is one for the whole instance; give each its own service_id"
            )
        by_instance.setdefault(one.service, []).append(one)
        for tag in (one.leader_tag, one.follower_tag):
            other = by_tag.setdefault((one.service, tag.casefold()), one)
            if other is not one:
                raise ConfigError(
                    f"{one.where} and {other.name!r} both set the tag {tag!r} on the service "
                    f"{one.service!r}: give them different leader and follower tags"
                )


def _same_instance(one: ElectionSettings, other: ElectionSettings) -> bool:
    ids = [e.instance.id if e.instance else e.instance_id for e in (one, other)]
    return "" in ids or ids[0] == ids[1]
