"""What the contracts need to know of ZooKeeper: how to make members, and to do harm."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from kazoo.client import KazooClient
from leadertag.config.table import Table
from leadertag.model import Health, Instance
from leadertag.providers import BackendContext, SelfRegistered
from leadertag.testing.contracts import Harness, Member
from leadertag.testing.relay import Relay

from leadertag_zookeeper import ZooKeeperLock, ZooKeeperQuery, ZooKeeperRegistry
from leadertag_zookeeper.link import Link
from leadertag_zookeeper.names import Names

ADMIN = "admin-of-the-tests"


class ZooKeeperHarness(Harness):
    """One server for all tests; a prefix of its own keeps them apart.

    Each member reaches it through a relay of its own, so that one alone can be cut off.
    """

    patience = 20.0

    def __init__(self, server: str, tick: float) -> None:
        self._server = server
        self._settings = {
            "prefix": f"/test-{uuid.uuid4().hex[:8]}", "timeout": "4s",
            "tick_time": f"{tick * 1000:.0f}ms", "gate_session": f"{max(2.0, 2 * tick):g}s",
            # Instances that a test does not report on again must not vanish in its middle.
            "report_life": "40s",
        }  # fmt: skip
        self.names = Names(self._settings["prefix"])
        self.ttl = max(8.0, 2 * tick)
        self.session_expiry = 2 * self.ttl + tick
        self.relays: dict[str, Relay] = {}
        self._writes: dict[str, int] = {}
        self._members: list[Member] = []
        self._send = Link.send
        Link.send = self._counting()  # type: ignore[method-assign]
        # Of its own: the tests look at what everybody else logs.
        self.admin = KazooClient(server, timeout=30, logger=logging.getLogger(ADMIN))
        self.admin.start()

    def _counting(self) -> Callable[[Link, Any], Any]:
        send, writes = self._send, self._writes

        def counted(link: Link, request: Any) -> Any:
            node = link._settings.node
            writes[node] = writes.get(node, 0) + 1
            return send(link, request)

        return counted

    def close(self) -> None:
        """Leave nothing behind, on the server neither."""
        Link.send = self._send  # type: ignore[method-assign]
        for member in self._members:
            for provider in member.providers:
                provider.close()
        for relay in self.relays.values():
            relay.close()
        self.admin.delete(self.names.prefix, recursive=True)
        self.admin.stop()
        self.admin.close()

    # -- members -----------------------------------------------------------------------

    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        usual = {"hosts": [self._server], **self._settings}
        return BackendContext(Table({**usual, **settings}, "test: backends.zookeeper"), {})

    def unreachable(self) -> BackendContext:
        return self.context({"hosts": ["127.0.0.1:1"], "timeout": "500ms"})

    def join(self, name: str) -> Member:
        return self.member(name, hosts=[self.relay(name).address])

    def relay(self, name: str) -> Relay:
        """Return what stands between that member and the server."""
        if name not in self.relays:
            host, _, port = self._server.rpartition(":")
            self.relays[name] = Relay(host, int(port))
        return self.relays[name]

    def member(self, name: str, hosts: Sequence[str] = (), **settings: Any) -> Member:
        """Return a member, with other settings than usual."""
        where = {"hosts": list(hosts) or [self._server], "node": f"node-{name}"}
        context = self.context({**where, **settings})
        member = Member(
            name,
            lock=ZooKeeperLock.create(context),
            registry=ZooKeeperRegistry.create(context),
            query=ZooKeeperQuery.create(context),
        )
        self._members.append(member)
        return member

    # -- from outside --------------------------------------------------------------------

    def register(self, member: Member, instance: Instance) -> None:
        assert isinstance(member.registry, SelfRegistered)
        member.registry.register(instance)
        member.registry.report(instance.id, Health.PASSING)

    def deregister(self, member: Member, instance_id: str) -> None:
        assert isinstance(member.registry, SelfRegistered)
        member.registry.deregister(instance_id)

    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        assert isinstance(member.registry, SelfRegistered)
        member.registry.report(instance_id, health)

    def expire(self, member: Member, session: str) -> None:
        """Take the session up, and close it: what hangs on it is gone when that returns."""
        found = json.loads(self.admin.get(self.names.session(session))[0])
        identity = found["session"], bytes.fromhex(found["password"])
        heir = KazooClient(self._server, timeout=10, client_id=identity)
        heir.start()
        assert heir.client_id == identity
        heir.stop()
        heir.close()

    def plant(self, key: str, value: bytes) -> None:
        path = self.names.record(key)
        self.admin.ensure_path(path)
        self.admin.set(path, value)

    def writes(self, member: Member) -> int:
        return self._writes.get(f"node-{member.name}", 0)

    def cut(self, member: Member) -> AbstractContextManager[None]:
        return self.relays[member.name].cut()
