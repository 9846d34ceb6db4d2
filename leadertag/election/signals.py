"""When does a member move on? For each state its signals, first one up wins.

Safety comes first in every list: losing the lock outranks whatever else has happened.
"""

from __future__ import annotations

from collections.abc import Callable

from leadertag.election import events as ev
from leadertag.election import guards
from leadertag.election.standing import Standing
from leadertag.election.states import Signal, State

Guard = Callable[[Standing, ev.Event], bool]

_HOLDER: list[tuple[Signal, Guard]] = [
    (Signal.LOST, guards.lost),
    (Signal.STOP, guards.stop),
    (Signal.UNFIT, guards.unfit),
    (Signal.NO_CONTACT, guards.no_contact),
]
_ACTING: list[tuple[Signal, Guard]] = [*_HOLDER, (Signal.FOREIGN, guards.foreign)]
_IDLE_HOLDER: list[tuple[Signal, Guard]] = [*_HOLDER, (Signal.PAUSE, guards.paused)]

SIGNALS: dict[State, list[tuple[Signal, Guard]]] = {
    State.STARTING: [
        (Signal.UNFINISHED, guards.unfinished),
        (Signal.STOP, guards.stop),
        (Signal.READY, guards.ready),
    ],
    State.WATCHING: [
        (Signal.STOP, guards.stop),
        (Signal.ADOPTABLE, guards.may_adopt),
        (Signal.ORPHANED, guards.orphaned),
        (Signal.LOST, guards.left_acting),
        (Signal.CAMPAIGN, guards.may_campaign),
    ],
    State.ADOPTING: [(Signal.ADOPTED, guards.got_lease), (Signal.FAILED, guards.failed)],
    State.VERIFYING: [
        (Signal.LOST, guards.lost),
        (Signal.KEEP, guards.keep),
        (Signal.SUSPEND, guards.suspend),
        *_ACTING[1:],
        (Signal.UPHELD, guards.upheld),
        (Signal.PASSED, guards.hook_ok),
        (Signal.REFUSED, guards.hook_failed),
    ],
    State.ACQUIRING: [
        (Signal.STALE_TERM, guards.stale_term),
        (Signal.ACQUIRED, guards.got_lease),
        (Signal.BEATEN, guards.beaten),
        (Signal.FAILED, guards.failed),
    ],
    State.WAITING_OUT: [
        *_IDLE_HOLDER,
        (Signal.WAITED, guards.waited),
        (Signal.RETRY, guards.look_again),
    ],
    State.VETTING: [
        *_IDLE_HOLDER,
        (Signal.PASSED, guards.hook_ok),
        (Signal.REFUSED, guards.hook_failed),
    ],
    State.RANKING: [
        *_IDLE_HOLDER,
        (Signal.PASSED, guards.ranked),
        (Signal.REFUSED, guards.unranked),
    ],
    State.CANVASSING: [
        *_IDLE_HOLDER,
        (Signal.OUTRANKED, guards.outranked),
        (Signal.PASSED, guards.heard),
    ],
    State.GUARDING: [
        *_IDLE_HOLDER,
        (Signal.PASSED, guards.guarded),
        (Signal.REFUSED, guards.unguarded),
    ],
    State.PROMOTING: [
        *_ACTING,
        (Signal.PROMOTED, guards.hook_ok),
        (Signal.FAILED, guards.hook_failed),
    ],
    State.CLOSING: [
        *_ACTING,
        (Signal.CLOSED, guards.closed),
        (Signal.REJECTED, guards.unclosed),
        (Signal.RETRY, guards.close_again),
    ],
    State.PUBLISHING: [
        (Signal.KEEP, guards.keep_published),
        (Signal.LOST, guards.lost),
        (Signal.SUSPEND, guards.suspend),
        *_ACTING[1:],
        (Signal.PUBLISHED, guards.published),
        (Signal.REJECTED, guards.rejected),
        (Signal.RETRY, guards.retry),
    ],
    State.LEADING: [
        (Signal.LOST, guards.lost),
        (Signal.HOLD, guards.hold),
        (Signal.NO_CONTACT, guards.no_contact),
        (Signal.SUSPEND, guards.suspend),
        (Signal.UNFIT, guards.unfit),
        (Signal.KEEP, guards.keep),
        (Signal.STOP, guards.stop),
        (Signal.FOREIGN, guards.foreign),
        (Signal.HAND_OVER, guards.hand_over),
        (Signal.RESUMED, guards.unverified),
        (Signal.REVERTED, guards.reverted),
    ],
    State.HOLDING: [
        (Signal.LOST, guards.lost),
        (Signal.UNFIT, guards.unfit),
        (Signal.STOP, guards.stop),
        (Signal.CONTACT, guards.contact),
    ],
    State.SUSPENDED: [
        (Signal.LOST, guards.lost),
        (Signal.NO_CONTACT, guards.no_contact),
        (Signal.KEEP, guards.keep),
        (Signal.STOP, guards.stop),
        (Signal.FOREIGN, guards.foreign),
        (Signal.FIT, guards.fit),
        (Signal.UNFIT, guards.unpaused),
    ],
    State.RETRACTING: [(Signal.DONE, guards.retracted), (Signal.NO_CONTACT, guards.no_contact)],
    State.DEMOTING: [(Signal.DONE, guards.demoted), (Signal.FAILED, guards.hook_failed)],
    State.FENCING: [(Signal.DONE, guards.fenced), (Signal.FAILED, guards.unfenced)],
    State.STUCK: [(Signal.RETRY, guards.retry)],
    State.RELEASING: [(Signal.DONE, guards.released), (Signal.RETRY, guards.retry)],
    State.STOPPED: [],
}
