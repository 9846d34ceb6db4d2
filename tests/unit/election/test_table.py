"""The transition table is the truth: signals, entries and diagram agree with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from leadertag.election.diagram import mermaid
from leadertag.election.entry import ENTRY
from leadertag.election.signals import SIGNALS
from leadertag.election.states import GIVING_UP, TRANSITIONS, UNHELD, Signal, State


@pytest.mark.parametrize("state", State)
def test_every_signal_of_a_state_has_a_transition_and_the_other_way_round(state: State) -> None:
    assert {signal for signal, _ in SIGNALS[state]} == set(TRANSITIONS[state])


@pytest.mark.parametrize("state", State)
def test_no_signal_of_a_state_stands_twice(state: State) -> None:
    signals = [signal for signal, _ in SIGNALS[state]]
    assert len(signals) == len(set(signals))


def test_tables_know_every_state() -> None:
    assert set(TRANSITIONS) == set(SIGNALS) == set(State)
    assert set(ENTRY) == set(State) - {State.STARTING}


def test_every_state_can_be_reached() -> None:
    reached = {State.STARTING}
    while True:
        further = {target for state in reached for target in TRANSITIONS[state].values()}
        if further <= reached:
            break
        reached |= further
    assert reached == set(State)


def test_every_signal_is_used() -> None:
    used = {signal for exits in TRANSITIONS.values() for signal in exits}
    assert used == set(Signal)


def test_only_the_stopped_state_ends() -> None:
    assert [state for state in State if not TRANSITIONS[state]] == [State.STOPPED]


@pytest.mark.parametrize("state", sorted(set(State) - UNHELD - GIVING_UP))
def test_whoever_holds_the_lock_looks_first_for_its_loss(state: State) -> None:
    signals = [signal for signal, _ in SIGNALS[state] if signal is not Signal.KEEP]
    assert signals[0] is Signal.LOST


@pytest.mark.parametrize("state", sorted(set(State) - UNHELD - GIVING_UP))
def test_whoever_holds_the_lock_gives_up_without_contact(state: State) -> None:
    if state is not State.HOLDING:  # told to hold
        assert TRANSITIONS[state][Signal.NO_CONTACT] in GIVING_UP


def test_diagram_has_every_transition_and_nothing_else() -> None:
    expected = {
        f"    {state} --> {target}: {signal}"
        for state, exits in TRANSITIONS.items()
        for signal, target in exits.items()
    }
    printed = subprocess.run(
        [sys.executable, "-m", "leadertag.election.diagram"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed == mermaid() + "\n"
    first, start, *transitions, end = printed.splitlines()
    assert (first, start, end) == (
        "stateDiagram-v2", "    [*] --> starting", "    stopped --> [*]",
    )  # fmt: skip
    assert set(transitions) == expected
    assert len(transitions) == len(expected)
