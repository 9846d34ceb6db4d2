"""The states of one member in one election, and every transition between them, as data.

Rule 1: the table is the truth. The machine moves along it and nowhere else, and the
diagram in ``docs/concepts.md`` is generated from it (``python -m leadertag.election.diagram``).
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a member stands."""

    STARTING = "starting"
    """Nothing is known yet."""
    WATCHING = "watching"
    """Holds no lock: follows whoever leads, campaigns when nobody holds the lock."""
    ADOPTING = "adopting"
    """Takes its own lock back after a restart."""
    VERIFYING = "verifying"
    """Takes a leadership up again: ``verify`` asks whether the service is still in that role."""
    ACQUIRING = "acquiring"
    """Asked for the lock."""
    WAITING_OUT = "waiting_out"
    """Holds the lock; a vanished predecessor may still act for the rest of its lease."""
    VETTING = "vetting"
    """``before_promote`` hooks are asked."""
    RANKING = "ranking"
    """``rank`` is asked: an instance of rank 0 never leads."""
    CANVASSING = "canvassing"
    """Hears how the other candidates rank, and gives way to a better one."""
    GUARDING = "guarding"
    """Takes the predecessor's own lock as well (rolling change)."""
    PROMOTING = "promoting"
    """``promote`` runs: from here on this member acts as leader."""
    CLOSING = "closing"
    """Shuts out every other instance that still carries the leader tag."""
    PUBLISHING = "publishing"
    """Confirms, writes the record, tag and gate, reads back, confirms, opens the gate."""
    LEADING = "leading"
    HOLDING = "holding"
    """Without contact and told to hold: keeps its role behind a closed gate."""
    SUSPENDED = "suspended"
    """Its service is unfit, but elections are paused: keeps lock and role, behind a closed gate."""
    RETRACTING = "retracting"
    """Closes its gate and takes its tag off."""
    DEMOTING = "demoting"
    FENCING = "fencing"
    """``demote`` failed: the service is stopped for good."""
    STUCK = "stuck"
    """Neither succeeded: keeps the lock, so that nobody succeeds a live leader."""
    RELEASING = "releasing"
    STOPPED = "stopped"


class Signal(StrEnum):
    """Why a member moves on."""

    UNFINISHED = "killed while it took over or gave up"
    READY = "instance and lock are known"
    CAMPAIGN = "may campaign"
    ADOPTABLE = "own lock, still led"
    ORPHANED = "own lock, not adoptable"
    ADOPTED = "taken back"
    RESUMED = "led by the run before"
    UPHELD = "still leads, as published"
    ACQUIRED = "acquired"
    BEATEN = "somebody else was faster"
    STALE_TERM = "term is not above all seen"
    WAITED = "no wait is owed"
    PASSED = "passed"
    REFUSED = "refused"
    OUTRANKED = "another candidate ranks higher"
    PROMOTED = "promoted"
    CLOSED = "nobody else resolves"
    PUBLISHED = "published"
    REVERTED = "tags or gate were changed"
    REJECTED = "cannot be published"
    HOLD = "no contact, hold"
    CONTACT = "confirmed again"
    DONE = "done"
    FAILED = "failed"
    RETRY = "try again"
    UNFIT = "service unfit to lead"
    LOST = "lock lost"
    NO_CONTACT = "unconfirmed for too long"
    FOREIGN = "a foreign leader is passing"
    STOP = "asked to stop"
    KEEP = "asked to stop and keep the lock"
    PAUSE = "elections are paused"
    SUSPEND = "unfit in a pause"
    FIT = "fit again"
    HAND_OVER = "a candidate has accepted to succeed it"


# What can befall whoever holds the lock but does not act yet ...
_IDLE_HOLDER = {
    Signal.LOST: State.WATCHING,
    Signal.NO_CONTACT: State.RELEASING,
    Signal.UNFIT: State.RELEASING,
    Signal.STOP: State.RELEASING,
    Signal.PAUSE: State.RELEASING,
}
# ... and whoever acts, but is not published: nothing to retract before demoting.
_ACTING = {
    Signal.LOST: State.DEMOTING,
    Signal.NO_CONTACT: State.DEMOTING,
    Signal.UNFIT: State.DEMOTING,
    Signal.STOP: State.DEMOTING,
    Signal.FOREIGN: State.DEMOTING,
}

TRANSITIONS: dict[State, dict[Signal, State]] = {
    State.STARTING: {
        # Whatever the lock says: there is nothing to take back, only to end, and soon.
        Signal.UNFINISHED: State.DEMOTING,
        Signal.STOP: State.STOPPED,
        Signal.READY: State.WATCHING,
    },
    State.WATCHING: {
        Signal.ADOPTABLE: State.ADOPTING,
        Signal.ORPHANED: State.DEMOTING,
        Signal.LOST: State.DEMOTING,
        Signal.STOP: State.STOPPED,
        Signal.CAMPAIGN: State.ACQUIRING,
    },
    State.ADOPTING: {
        Signal.ADOPTED: State.VERIFYING,
        Signal.FAILED: State.WATCHING,
    },
    State.VERIFYING: _ACTING
    | {
        # It is published: what the process before left, or what stands behind a closed gate.
        Signal.UNFIT: State.RETRACTING,
        Signal.STOP: State.RETRACTING,
        Signal.FOREIGN: State.RETRACTING,
        Signal.KEEP: State.STOPPED,
        Signal.SUSPEND: State.SUSPENDED,
        Signal.UPHELD: State.LEADING,
        Signal.PASSED: State.PUBLISHING,
        Signal.REFUSED: State.RETRACTING,
    },
    State.ACQUIRING: {
        Signal.STALE_TERM: State.RELEASING,
        Signal.ACQUIRED: State.WAITING_OUT,
        Signal.BEATEN: State.WATCHING,
        Signal.FAILED: State.WATCHING,
    },
    State.WAITING_OUT: _IDLE_HOLDER
    | {Signal.WAITED: State.VETTING, Signal.RETRY: State.WAITING_OUT},
    State.VETTING: _IDLE_HOLDER | {Signal.PASSED: State.RANKING, Signal.REFUSED: State.RELEASING},
    State.RANKING: _IDLE_HOLDER
    | {Signal.PASSED: State.CANVASSING, Signal.REFUSED: State.RELEASING},
    State.CANVASSING: _IDLE_HOLDER
    | {Signal.PASSED: State.GUARDING, Signal.OUTRANKED: State.RELEASING},
    State.GUARDING: _IDLE_HOLDER
    | {Signal.PASSED: State.PROMOTING, Signal.REFUSED: State.RELEASING},
    State.PROMOTING: _ACTING | {Signal.PROMOTED: State.CLOSING, Signal.FAILED: State.DEMOTING},
    State.CLOSING: _ACTING
    | {
        Signal.CLOSED: State.PUBLISHING,
        Signal.REJECTED: State.DEMOTING,
        Signal.RETRY: State.CLOSING,
    },
    State.PUBLISHING: _ACTING
    | {
        # What is being published has to be taken back as well.
        Signal.UNFIT: State.RETRACTING,
        Signal.STOP: State.RETRACTING,
        Signal.FOREIGN: State.RETRACTING,
        Signal.KEEP: State.STOPPED,
        Signal.SUSPEND: State.SUSPENDED,
        Signal.PUBLISHED: State.LEADING,
        Signal.RETRY: State.PUBLISHING,
        Signal.REJECTED: State.RETRACTING,
    },
    State.LEADING: {
        Signal.LOST: State.DEMOTING,
        Signal.HOLD: State.HOLDING,
        Signal.NO_CONTACT: State.DEMOTING,
        Signal.SUSPEND: State.SUSPENDED,
        Signal.UNFIT: State.RETRACTING,
        Signal.HAND_OVER: State.RETRACTING,
        Signal.KEEP: State.STOPPED,
        Signal.STOP: State.RETRACTING,
        Signal.FOREIGN: State.RETRACTING,
        Signal.RESUMED: State.VERIFYING,
        Signal.REVERTED: State.PUBLISHING,
    },
    State.HOLDING: {
        Signal.LOST: State.DEMOTING,
        Signal.UNFIT: State.DEMOTING,
        Signal.STOP: State.DEMOTING,
        Signal.CONTACT: State.PUBLISHING,
    },
    State.SUSPENDED: {
        Signal.LOST: State.DEMOTING,
        Signal.NO_CONTACT: State.DEMOTING,
        Signal.KEEP: State.STOPPED,
        Signal.STOP: State.RETRACTING,
        Signal.FOREIGN: State.RETRACTING,
        Signal.FIT: State.VERIFYING,
        Signal.UNFIT: State.RETRACTING,
    },
    State.RETRACTING: {Signal.DONE: State.DEMOTING, Signal.NO_CONTACT: State.DEMOTING},
    State.DEMOTING: {Signal.DONE: State.RELEASING, Signal.FAILED: State.FENCING},
    State.FENCING: {Signal.DONE: State.RELEASING, Signal.FAILED: State.STUCK},
    State.STUCK: {Signal.RETRY: State.DEMOTING},
    State.RELEASING: {Signal.DONE: State.WATCHING, Signal.RETRY: State.RELEASING},
    State.STOPPED: {},
}

UNHELD = frozenset({State.STARTING, State.WATCHING, State.ADOPTING, State.ACQUIRING, State.STOPPED})
"""States in which this member holds no lease."""
GIVING_UP = frozenset(
    {State.RETRACTING, State.DEMOTING, State.FENCING, State.STUCK, State.RELEASING}
)

LED = (
    State.VERIFYING, State.PUBLISHING, State.LEADING, State.HOLDING, State.SUSPENDED,
    State.STOPPED,
)  # fmt: skip
"""States in which a process that was acting was published too: it may be adopted."""
