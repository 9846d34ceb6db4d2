"""The loop: events in, effects out, for all elections of one process."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.election import events as ev
from leadertag.errors import ConfigError
from leadertag.hooks.runner import HookRunner
from leadertag.model import Instance, LockView
from leadertag.scheduler.clock import Clock
from leadertag.scheduler.intake import Intake, own_id, pick, why_none
from leadertag.scheduler.keeper import Keeper
from leadertag.scheduler.member import Hold, Member, make_policy

log = logging.getLogger(__name__)
THREADS = 16
"""Effects under way at once, over all elections: what bounds the connections too."""
TURN = 0.25
"""Seconds between two turns of the loop at most, while a lock is held."""
IDLE_TURN = 5.0
HUNG = 1.0
"""Seconds without a turn after which the heart stops feeding the gates."""
ADMIT_AGAIN = 1.0
"""Seconds between two tries to take a member's lock file from another process."""
STOP_GRACE = 10.0
"""Seconds on top of the hooks' own limits within which a stop has to be over."""


class Overseer(Protocol):
    """Whoever ends this process's leaderships when it cannot itself (the guardian)."""

    def hold(self, holds: Sequence[Hold]) -> None:
        """Take note; replaces what was told before."""


class Scheduler:
    """Composes one lock, one registry and one query provider with the hooks of each election."""

    def __init__(
        self, settings: Settings, providers: Providers, hooks: Mapping[str, HookRunner],
        clock: Clock, *, socket: str = "", overseer: Overseer | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._providers = providers
        self._clock = clock
        self._socket = socket
        self._overseer = overseer
        self._untold = False
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="effect")
        self._count = itertools.count(1)
        self._members: dict[str, Member] = {}
        """By token: a member that leaves may have the name of one that comes."""
        self._views: dict[str, LockView] = {}
        self._instances: Mapping[str, Instance] = {}
        self._services: dict[str, tuple[Instance, ...]] = {}
        """All instances of a service, by election, where they are watched."""
        self._due: list[tuple[float, str]] = []
        self._stopping = False
        self._stop_by = 0.0
        self._turned_at = clock.now()
        for election in settings.elections:
            self._add(election, hooks[election.name])
        self._intake = self._make_intake()
        ttl = 2 * max((election.lease for election in settings.elections), default=5.0)
        self._keeper = Keeper(providers, clock, self.post, owner=owner_of(settings), ttl=ttl)
        self._keeper.alive = self._may_feed

    # -- called from other threads ---------------------------------------------------------

    def post(self, token: str, event: ev.Event) -> None:
        """Hand an event to one member by its token, or to all of them (``""``)."""
        self._inbox.put((token, event))

    def call(self, work: Callable[[], None]) -> None:
        """Have the loop's thread do something between two events."""
        self._inbox.put(("", work))

    def stop(self, *, keep: bool | None = None) -> None:
        """Stop, giving up leaderships or keeping them; ``None``: as each election says."""
        self.call(lambda: self._begin_stop(keep))

    def describe(self) -> list[dict[str, Any]]:
        """Return the state of every election."""
        return [member.describe() for member in list(self._members.values())]

    @property
    def holds(self) -> bool:
        """Whether a leadership is left behind, on purpose or not."""
        return any(member.standing.acting for member in self._members.values())

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> bool:
        """Run until stopped. Returns whether everything ended in order."""
        self._intake.start()
        self._keeper.start()
        while not self._finished():
            self._turn()
        clean = all(member.over for member in self._members.values())
        self._shut_down(clean)
        return clean

    def _turn(self) -> None:
        try:
            token, item = self._inbox.get(timeout=self._patience())
        except queue.Empty:
            pass
        else:
            if isinstance(item, ev.Event):
                self._deliver(token, item)
            else:
                item()
        now = self._turned_at = self._clock.now()
        while self._due and self._due[0][0] <= now:
            _, token = heapq.heappop(self._due)
            self._remind(token, now)
        if self._untold and self._overseer is not None and self._inbox.empty():
            self._untold = False
            holds = [m.hold() for m in self._members.values() if m.standing.acting]
            self._overseer.hold([hold for hold in holds if hold is not None])

    def _patience(self) -> float:
        busy = self._stopping or any(m.standing.holds for m in self._members.values())
        most = TURN if busy else IDLE_TURN
        if not self._due:
            return most
        return min(most, max(0.0, self._due[0][0] - self._clock.now()))

    def _remind(self, token: str, now: float) -> None:
        member = self._members.get(token)
        if member is None:
            return
        if member.admitted:
            self._take(member, ev.Tick(now))
        else:
            self._try_to_admit(member)

    def _deliver(self, token: str, event: ev.Event) -> None:
        if not token:
            for member in list(self._members.values()):
                self._take(member, event)
        elif token in self._members:
            self._take(self._members[token], event)

    def _take(self, member: Member, event: ev.Event) -> None:
        if not member.admitted:
            return
        held, acted = member.standing.lease, member.standing.acting
        member.take(event)
        self._untold = self._untold or acted or member.standing.acting
        if member.standing.lease is not held:
            self._tell_keeper()
        if member.leaving and member.over:
            self._drop(member)
            return
        due = member.deadline()
        if due is not None and due != member.reminded_at:
            member.reminded_at = due
            heapq.heappush(self._due, (due, member.token))

    def _may_feed(self) -> bool:
        """Whether the heart may beat: the loop turns, and no gate is open that should not be.

        One heartbeat feeds all gates of the process. One that an ended term left behind
        would open with the others, so they wait until it is gone.
        """
        stale = any(member.has_stale_gate for member in list(self._members.values()))
        return self._clock.now() - self._turned_at < HUNG and not stale

    def _tell_keeper(self) -> None:
        members = self._members.values()
        leases = {m.token: m.standing.lease for m in members if m.standing.lease}
        every = min((m.policy.confirm_every for m in members), default=1.0)
        self._keeper.keep(leases, every, gated=bool(leases))

    # -- members -------------------------------------------------------------------------------

    def _add(self, election: ElectionSettings, hooks: HookRunner) -> None:
        token = f"{election.name}#{next(self._count)}"
        self._members[token] = Member(
            token, election, self._providers, hooks, self._clock, self._pool, self.post
        )

    def _drop(self, member: Member) -> None:
        del self._members[member.token]
        member.close()
        log.info("%s: is not taken part in any more", member.election.name)

    def _try_to_admit(self, member: Member) -> None:
        """Begin with a member once its instance is known and no other process speaks for it."""
        instance = pick(self._instances, member.election)
        if member.admitted or self._stopping:
            return
        if instance is None:
            member.wait_for(why_none(self._instances, member.election))
            return
        memory = member.admit(instance, self._settings.state_dir, {"socket": self._socket})
        now = self._clock.now()
        if not member.admitted:
            heapq.heappush(self._due, (now + ADMIT_AGAIN, member.token))
            return
        self._keeper.open_with(memory.session if memory else "")
        if self._keeper.session:
            self._take(member, ev.SessionOpened(now, self._keeper.session))
        view = self._views.get(member.election.key)
        if view is not None:
            self._take(member, ev.LockSeen(now, view))
        if (service := self._services.get(member.election.name)) is not None:
            self._take(member, ev.MembersSeen(now, service))
        self._take(member, ev.InstanceSeen(now, instance))
        member.start_probe(instance)

    def reload(self, settings: Settings, hooks: Mapping[str, HookRunner]) -> None:
        """Take over changed elections. Only the loop's thread may call it (see :meth:`call`).

        Raises ConfigError, with nothing changed, where only a restart would do.
        """
        old = self._settings
        for name in ("lock", "registry", "query", "backends", "state_dir"):
            if getattr(old, name) != getattr(settings, name):
                raise ConfigError(f"{settings.source}: {name} has changed: that needs a restart")
        policies = {
            election.name: make_policy(election, self._providers, hooks[election.name], gated=True)
            for election in settings.elections
        }
        wanted = {election.name: election for election in settings.elections}
        for member in [m for m in self._members.values() if not m.leaving]:
            election = wanted.get(member.election.name)
            if election is None or not same_member(member.election, election):
                self._dismiss(member)
                continue
            name = wanted.pop(election.name).name
            if election != member.election:
                member.change(election, hooks[name], policies[name])
        for election in wanted.values():
            self._add(election, hooks[election.name])
        self._settings = settings
        self._intake.stop()
        self._intake = self._make_intake()
        self._intake.start()

    def _dismiss(self, member: Member) -> None:
        member.leaving = True
        self._take(member, ev.StopAsked(self._clock.now(), keep=False))
        if member.token in self._members and member.over:
            self._drop(member)

    # -- what flows in ----------------------------------------------------------------------------

    def _make_intake(self) -> Intake:
        return Intake(
            self._providers, [m.election for m in self._members.values()],
            locks=lambda snapshot: self.call(lambda: self._see_locks(snapshot)),
            instances=lambda snapshot: self.call(lambda: self._see_instances(snapshot)),
            members=lambda name, seen: self.call(lambda: self._see_members(name, seen)),
            watched=lambda works: self.post("", ev.RegistryWatched(self._clock.now(), works)),
        )  # fmt: skip

    def _see_locks(self, snapshot: Mapping[str, LockView]) -> None:
        changed = {key: view for key, view in snapshot.items() if self._views.get(key) != view}
        self._views.update(snapshot)
        for member in list(self._members.values()):
            view = changed.get(member.election.key)
            if view is not None:
                self._take(member, ev.LockSeen(self._clock.now(), view))

    def _see_instances(self, snapshot: Mapping[str, Instance]) -> None:
        before, self._instances = self._instances, snapshot
        for member in list(self._members.values()):
            if not member.admitted:
                self._try_to_admit(member)
                continue
            instance = pick(snapshot, member.election)
            if instance != pick(before, member.election) or not member.standing.instance_known:
                self._take(member, ev.InstanceSeen(self._clock.now(), instance))

    def _see_members(self, name: str, members: tuple[Instance, ...]) -> None:
        self._services[name] = members
        for member in list(self._members.values()):
            if member.election.name == name:
                self._take(member, ev.MembersSeen(self._clock.now(), members))

    # -- the end ----------------------------------------------------------------------------------

    def _begin_stop(self, keep: bool | None) -> None:
        self._stopping = True
        now = self._clock.now()
        limits = [sum(m.policy.budgets.values()) for m in self._members.values()]
        self._stop_by = now + max(limits, default=0.0) + STOP_GRACE
        for member in list(self._members.values()):
            keeps = member.election.on_stop == "keep" if keep is None else keep
            self._take(member, ev.StopAsked(now, keeps))

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        if self._clock.now() < self._stop_by:
            return all(member.over for member in self._members.values())
        for member in self._members.values():
            if not member.over:
                log.error("%s: ended while %s", member.election.name, member.standing.state)
        return True

    def _shut_down(self, clean: bool) -> None:
        holds = any(member.standing.holds for member in self._members.values())
        self._intake.stop()
        self._keeper.stop(end_session=clean and not holds)
        self._pool.shutdown(wait=clean, cancel_futures=True)
        for member in self._members.values():
            member.close()


def same_member(old: ElectionSettings, new: ElectionSettings) -> bool:
    """Whether changed settings can be taken over without giving up and beginning anew."""
    return (old.key, own_id(old), old.leader_tag, old.compat) == (
        new.key, own_id(new), new.leader_tag, new.compat,
    )  # fmt: skip


def owner_of(settings: Settings) -> str:
    """Return a name for this process that its successor after a restart bears too."""
    return settings.owner
