"""The hooks: what a service does when its role changes.

A hook is a class, registered under the entry-point group ``leadertag.hooks``, made
with the settings of its ``[[elections.NAME.hooks]]`` table, whose methods carry
:data:`leadertag.hookimpl`::

    from leadertag import RoleChange, hookimpl

    class Announce:
        def __init__(self, settings):
            self.channel = settings.text("channel")

        @hookimpl
        def leadertag_role_changed(self, change: RoleChange) -> None:
            print(change.election, change.role, change.term)

The hooks of one election run one at a time, in the order of the configuration, each
with its time limit (seconds, ``timeout`` in its table). A hook fails by raising
:class:`leadertag.HookError`, or anything else. One that fails does not keep the
others of the same event from running, but the event has then failed.

Actions (``before_promote``, ``promote``, ``verify``, ``demote``, ``fence``, ``follow``, and
``rank``) run in a warm worker process, which is ended with all its children at the time limit: an
implementation may block, and must expect to be killed. They must be idempotent: a
restarted leadertag may ask again for what is already so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import pluggy

from leadertag.model import Health, Role

if TYPE_CHECKING:
    from leadertag.model import Instance

PROJECT = "leadertag"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookEvent(StrEnum):
    """What a hook can be called for; the spec's name without its prefix."""

    BEFORE_PROMOTE = "before_promote"
    PROMOTE = "promote"
    VERIFY = "verify"
    DEMOTE = "demote"
    FENCE = "fence"
    FOLLOW = "follow"
    ROLE_CHANGED = "role_changed"
    LEADER_CHANGED = "leader_changed"
    RANK = "rank"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What every hook is told.

    ``term`` is the fencing token of the leadership that is meant: of the one that begins
    (``promote``), goes on (``verify``), ends (``demote``), or is followed (``follow``).
    ``leader`` is ``None`` while nobody leads. ``timeout`` is what this call may take, in seconds.
    """

    event: HookEvent
    election: str
    role: Role
    previous_role: Role
    term: int
    reason: str
    instance: Instance
    leader: Instance | None
    timeout: float


class Probe(Protocol):
    """A health source faster than the registry's: a connection that breaks with the service."""

    def poll(self, timeout: float) -> Health | None:
        """Block until the health is known anew, at most ``timeout`` seconds; else ``None``.

        A broken connection is retried once before it counts; a request without an answer
        counts as critical (a stopped process still accepts connections). Never raises.
        """

    def close(self) -> None:
        """End it; a poll that is blocked returns soon."""


class Specs:
    """The specifications, for pluggy; each is called with every argument."""

    @hookspec
    def leadertag_before_promote(self, change: RoleChange) -> None:
        """May this instance lead? Raise HookError to veto: the lock goes to another one."""

    @hookspec
    def leadertag_promote(self, change: RoleChange) -> None:
        """Make the service the leader. When it fails, ``demote`` follows and another tries."""

    @hookspec
    def leadertag_verify(self, change: RoleChange) -> None:
        """A leadership is taken up again (after a restart of leadertag, or of an unfit service
        while elections were paused): is the service still in the leading role of this term?

        Raise HookError when not: leadertag gives up, demotes and another one leads, or this
        one anew. With ``check`` every run of the leader asks.
        """

    @hookspec
    def leadertag_demote(self, change: RoleChange) -> None:
        """Make the service stop acting as leader, within the time limit.

        A service that is provably gone counts as demoted.
        """

    @hookspec
    def leadertag_fence(self, change: RoleChange) -> None:
        """``demote`` failed: stop the service for good."""

    @hookspec
    def leadertag_follow(self, change: RoleChange) -> None:
        """Make the service follow ``change.leader``."""

    @hookspec
    def leadertag_role_changed(self, change: RoleChange) -> None:
        """This instance's role has changed (informational, after the fact)."""

    @hookspec
    def leadertag_leader_changed(self, change: RoleChange) -> None:
        """The election's leader has changed, wherever it is (informational)."""

    @hookspec
    def leadertag_rank(self, change: RoleChange) -> int:  # type: ignore[empty-body]
        """How much this instance should lead: higher is better, 0 never leads."""

    @hookspec
    def leadertag_probe(  # type: ignore[empty-body]
        self, election: str, instance: Instance
    ) -> Probe:
        """Open a probe of the local service."""
