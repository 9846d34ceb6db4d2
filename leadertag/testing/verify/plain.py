"""The harness that knows no backend: everything by the providers' own verbs.

What cannot be done so - registering an instance where the backend has registrations of its
own, counting writes, planting a foreign value - is skipped with the reason, for a plugin's
author to add in a subclass.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, ClassVar, cast

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, ConfigError, LeaderTagError
from leadertag.model import Health, Instance
from leadertag.plugins import Kind
from leadertag.providers import (
    BackendContext,
    LockProvider,
    Provider,
    QueryProvider,
    RegistryProvider,
    SelfRegistered,
)
from leadertag.testing.contracts import Harness, Member
from leadertag.testing.relay import Relay
from leadertag.testing.verify.member import PlainMember, not_tried, read_something
from leadertag.testing.verify.place import Place, look

_STEP = 0.5
"""Seconds between two signs of life of those who must not expire, while another one does."""
_RELAYED: dict[tuple[tuple[str, int], ...], bool] = {}
"""By address: whether the backend answers through a relay. Found out once a process."""


class PlainHarness(Harness):
    """Members under a prefix, or in a file, of their own; sessions really run out.

    A subclass for a plugin sets :attr:`classes`, and can be used as it is by
    ``leadertag plugins verify NAME --harness MODULE:CLASS``.
    """

    classes: ClassVar[Mapping[Kind, type[Provider]]] = {}
    """The plugin's providers, where :meth:`__init__` is not told."""
    ttl = 6.0  # longer than any test that needs its session to live
    patience = 15.0

    def __init__(
        self,
        context: BackendContext,
        classes: Mapping[Kind, type[Provider]] | None = None,
        *,
        run: str = "",
    ) -> None:
        """Take the live backend's settings; ``run`` is part of every name that is made.

        A subclass for ``plugins verify`` keeps these parameters: it is told the installed classes.
        No I/O. Raises ConfigError for a wrong setting.
        """
        self.offered = dict(classes if classes is not None else self.classes)
        self.run = run or uuid.uuid4().hex[:6]
        self.left: list[str] = []
        """What :meth:`close` could not take back, a line each."""
        self._live = context
        self._settings = context.settings.plain()
        self.place = self._look()
        self._own = self._own_place()
        self._members: list[Member] = []
        self._relays: dict[str, tuple[Relay, ...]] = {}
        self._names: list[str] = []
        self._health: dict[tuple[str, str], tuple[RegistryProvider, Health]] = {}
        self._dead = ExitStack()

    def _look(self) -> Place:
        with suppress(NotImplementedError):  # a plugin that is being written
            return look(self.offered.values(), self._live)
        return Place()

    def _own_place(self) -> dict[str, Any]:
        """Return the settings that keep the tests away from live elections."""
        place, part = self.place, f"verify-{self.run}-{uuid.uuid4().hex[:6]}"
        if place.prefix_key:
            return {place.prefix_key: f"{place.prefix}/{part}" if place.prefix else part}
        if not place.path_key:
            return {}
        if place.path:
            return {place.path_key: f"{os.path.expanduser(place.path)}.{part}"}
        return {place.path_key: os.path.join(tempfile.gettempdir(), f"leadertag.{part}")}

    # -- members -------------------------------------------------------------------------

    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        """Return a context as for :meth:`join`, with ``settings`` laid over the usual ones."""
        merged = {**self._settings, **self._own, **settings}
        return BackendContext(Table(merged, self._live.settings.where), self._live.environ)

    def join(self, name: str) -> Member:
        """Return the providers of a new process of that member."""
        member = self._made(name, self.context({**self._node(name), **self._door(name)}))
        if member.name != "a" and not self._node(name):
            member.alone = "a second node"
        self._members.append(member)
        if member.offered_lock is not None:
            self.session_expiry = member.offered_lock.session_expiry(self.ttl)
        return member

    def _made(self, name: str, context: BackendContext) -> PlainMember:
        made = {kind: cls.create(context) for kind, cls in self.offered.items()}
        return PlainMember(
            name,
            lock=cast("LockProvider | None", made.get("lock")),
            registry=cast("RegistryProvider | None", made.get("registry")),
            query=cast("QueryProvider | None", made.get("query")),
        )

    def _node(self, name: str) -> dict[str, Any]:
        """Return the setting that puts a member on a node of its own.

        Only where leadertag registers the instances: elsewhere the backend knows its nodes.
        """
        if "node" not in self.place.known or not self.self_registered:
            return {}
        return {"node": f"verify-{self.run}-{name}"}

    @property
    def self_registered(self) -> bool:
        """Whether instances are registered by leadertag, and so can be by this harness."""
        return issubclass(self.offered.get("registry", Provider), SelfRegistered)

    def unique(self, name: str) -> str:
        """Return a name that tells where it comes from, and that :meth:`close` knows."""
        self._names.append(f"{name}-verify-{self.run}-{uuid.uuid4().hex[:8]}")
        return self._names[-1]

    # -- the way to the backend ------------------------------------------------------------

    def unreachable(self) -> BackendContext:
        """Return settings under which nobody answers; proven before any test writes there."""
        if self.place.path_key:
            inside = os.path.join(self._own[self.place.path_key], "missing", "file")
            settings: dict[str, Any] = {self.place.path_key: inside}
        elif self.place.address_key:
            dead = self._dead.enter_context(socket.socket())
            dead.bind(("127.0.0.1", 0))  # and never listens
            settings = self.place.at([dead.getsockname()[1]])
        else:
            not_tried("settings under which nobody answers")
        if "timeout" in self.place.known:
            settings["timeout"] = "500ms"
        try:
            self._prove_dead(self.context(settings))
        except ConfigError as error:
            not_tried(f"settings under which nobody answers; guessed ones are refused: {error}")
        return self.context(settings)

    def _prove_dead(self, context: BackendContext) -> None:
        for provider in self._made("a", context).providers:
            try:
                read_something(provider, self.unique("nobody"))
            except BackendUnavailable:
                continue
            finally:
                provider.close()
            raise AssertionError("the backend answers although its address was replaced")

    def cut(self, member: Member) -> AbstractContextManager[None]:
        """Cut the relays before the backend."""
        relays = self._relays.get(member.name, ())
        if not relays:
            not_tried("cutting a member off: there is no address that a relay could stand for")
        return _all_cut(relays)

    def _door(self, name: str) -> dict[str, Any]:
        """Return the setting that leads through the member's relays, where that works."""
        targets = self.place.relayed()
        if not targets or not self._answers_relayed(targets):
            return {}
        if name not in self._relays:
            self._relays[name] = tuple(Relay(*target) for target in targets)
        return self.place.at(relay.port for relay in self._relays[name])

    def _answers_relayed(self, targets: tuple[tuple[str, int], ...]) -> bool:
        """Whether the backend can be read through relays: not where TLS checks its name."""
        if targets not in _RELAYED:
            relays = [Relay(*target) for target in targets]
            try:
                context = self.context(self.place.at(relay.port for relay in relays))
                provider = next(iter(self._made("a", context).providers))
                read_something(provider, self.unique("nobody"))
                _RELAYED[targets] = True
            except NotImplementedError:
                return False  # a plugin that is being written: it may work next time
            except LeaderTagError:
                _RELAYED[targets] = False
            finally:
                for relay in relays:
                    relay.close()
        return _RELAYED[targets]

    # -- from outside ----------------------------------------------------------------------

    def register(self, member: Member, instance: Instance) -> None:
        """Register by the registry's own verb, and report it passing."""
        registry = self._self_registered(member, "registering an instance")
        registry.register(instance)
        self.set_health(member, instance.id, Health.PASSING)

    def deregister(self, member: Member, instance_id: str) -> None:
        """Deregister by the registry's own verb."""
        self._self_registered(member, "deregistering an instance").deregister(instance_id)
        self._health.pop((member.name, instance_id), None)

    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        """Report it, and go on reporting it while a session runs out."""
        registry = self._self_registered(member, "setting an instance's health")
        registry.report(instance_id, health)
        self._health[member.name, instance_id] = registry, health

    def _self_registered(self, member: Member, what: str) -> SelfRegistered:
        registry = member.registry
        return registry if isinstance(registry, SelfRegistered) else not_tried(what)

    def expire(self, member: Member, session: str) -> None:
        """Let the session run out: nobody keeps it alive, and everybody else's goes on."""
        deadline = time.monotonic() + 1.1 * self.session_expiry + _STEP
        while (left := deadline - time.monotonic()) > 0:
            for other in self._members:
                if other.name != member.name:
                    self._keep_alive(other)
            for (_, instance_id), (registry, health) in self._health.items():
                with suppress(LeaderTagError):  # gone, which the test will see
                    cast(SelfRegistered, registry).report(instance_id, health)
            time.sleep(min(_STEP, left))

    def _keep_alive(self, member: Member) -> None:
        # A member without a session, or whose plugin has that verb not written yet.
        with suppress(LeaderTagError, NotImplementedError):
            member.lock.keep_alive()

    def plant(self, key: str, value: bytes) -> None:
        """Cannot be done by any verb."""
        not_tried("a foreign value in the place of a lock")

    def writes(self, member: Member) -> int:
        """Cannot be known from any verb."""
        not_tried("counting what is written")

    # -- afterwards --------------------------------------------------------------------------

    @property
    def remains(self) -> str:
        """What stays in the backend, in words: leadertag has no verb that deletes a lock."""
        if self.place.path_key or "lock" not in self.offered:
            return ""
        if self.place.prefix_key:
            where = f"under {self._own[self.place.prefix_key].rpartition('-')[0]}-*"
        else:
            where = f"with verify-{self.run} in their names"
        return (
            f"free locks and notes {where} (delete them with the backend's own tool), and sessions "
            f"that end by themselves within {self.session_expiry:g} s"
        )

    def close(self) -> None:
        """Take back what the tests made; :attr:`left` tells what could not be."""
        for relay in (relay for relays in self._relays.values() for relay in relays):
            relay.close()
        self._dead.close()
        for name in sorted({member.name for member in self._members}):
            self._take_back(name)
        if self.place.path_key:
            _delete(self._own[self.place.path_key])

    def _take_back(self, name: str) -> None:
        """As a new process of the member: the test's own providers are closed by now."""
        try:
            member = self._made(name, self.context(self._node(name)))
            for provider in member.providers:
                if isinstance(provider, SelfRegistered):
                    self._deregister_all(provider)
                elif isinstance(provider, QueryProvider):
                    self._remove_all(provider)
                provider.close()
        except NotImplementedError:
            return  # a plugin that is being written
        except Exception as error:  # noqa: BLE001 - told, whatever a plugin raises
            self.left.append(f"what member {name} registered: {type(error).__name__}: {error}")

    def _deregister_all(self, registry: SelfRegistered) -> None:
        for service in self._names:
            for found in registry.members(service):
                if found.node == registry.node:
                    registry.deregister(found.id)

    def _remove_all(self, query: QueryProvider) -> None:
        for definition in query.list():
            if any(definition.name.startswith(name) for name in self._names):
                query.remove(definition.name)


@contextmanager
def _all_cut(relays: tuple[Relay, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for relay in relays:
            stack.enter_context(relay.cut())
        yield


def _delete(path: str) -> None:
    """Delete a file of our own making, and what was put beside it under its name."""
    for found in glob.glob(glob.escape(path) + "*"):
        if os.path.isdir(found):
            shutil.rmtree(found, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(found)
