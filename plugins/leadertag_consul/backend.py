"""What the three providers of one configuration share."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass

from leadertag.errors import BackendUnavailable
from leadertag.providers import BackendContext
from leadertag_consul import settings as settings_module
from leadertag_consul.client import ConsulClient
from leadertag_consul.settings import ConsulSettings


@dataclass(frozen=True, slots=True)
class Node:
    """The agent's node, as the catalog names it."""

    name: str
    address: str


class Backend:
    """One client, and what is known about this process and its node."""

    def __init__(self, settings: ConsulSettings, own_checks: tuple[str, ...]) -> None:
        self.settings = settings
        self.own_checks = frozenset(own_checks)
        self.client = ConsulClient(settings)
        self.owner = ""
        """Who the process is, by the context or :meth:`LockProvider.open`: stable over restarts."""
        self.locks_here = False
        """Whether the locks are in this Consul too, and not in another backend."""
        self._mutex = threading.Lock()
        self._node: Node | None = None

    @classmethod
    def of(cls, context: BackendContext) -> Backend:
        """Return the backend of a context, made at the first call; ConfigError when wrong."""

        def make() -> Backend:
            settings = settings_module.read(context.settings, context.environ)
            backend = cls(settings, context.own_checks)
            backend.owner = context.owner
            return backend

        return context.shared("consul", make)

    @property
    def node(self) -> Node:
        """The agent's node; asked for once."""
        with self._mutex:
            if self._node is None:
                self._node = self._ask()
            return self._node

    def _ask(self) -> Node:
        name = self.settings.node
        if not name:
            info = self.client.get("/v1/agent/self").data
            return Node(info["Config"]["NodeName"], info["Member"]["Addr"])
        found = self.client.get(f"/v1/catalog/node/{name}").data
        if not found:
            raise BackendUnavailable(
                f"Consul at {self.settings.address} does not show the node {name!r}: "
                'it is not in the catalog, or the token lacks node_prefix "" read'
            )
        return Node(found["Node"]["Node"], found["Node"]["Address"])

    @property
    def own_service(self) -> str:
        """The id of leadertag's own service on the agent: one a member.

        Two processes on one agent have different owners, so neither keeps the other's
        gates open. Without a lock provider of this backend the node's name has to do.
        """
        owner = self.owner or self.node.name
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", owner)
        if plain != owner:  # two owners must not become one
            plain += "-" + hashlib.sha256(owner.encode()).hexdigest()[:8]
        return f"leadertag-{plain}"
