"""Many runs: the same whatever the number of processes, and counted."""

from __future__ import annotations

from leadertag.testing.simulator import Result
from leadertag.testing.simulator.hunt import Hunt, Tally, hunt
from tests.unit.election.mistakes import no_wait_after_an_unexplained_loss


def tally(results: list[Result]) -> Tally:
    counted = Tally()
    for result in results:
        counted.add(result)
    return counted


def test_the_result_does_not_depend_on_the_number_of_jobs() -> None:
    wanted = Hunt(40, 20)
    assert list(hunt(wanted, jobs=1)) == list(hunt(wanted, jobs=3))


def test_a_hunt_ends_at_the_first_failure_in_order() -> None:
    with no_wait_after_an_unexplained_loss():  # in the processes too: they are forked from here
        one, three = list(hunt(Hunt(1, 200), jobs=1)), list(hunt(Hunt(1, 200), jobs=3))
    assert one == three
    assert [bool(result.broken) for result in one] == [False] * (len(one) - 1) + [True]
    assert one[-1].timeline  # what broke is told whole


def test_a_hunt_keeps_going_when_told_to() -> None:
    with no_wait_after_an_unexplained_loss():
        counted = tally(list(hunt(Hunt(1, 60, keep_going=True), jobs=1)))
    assert counted.runs == 60
    assert len(counted.broken) > 1


def test_faults_and_states_are_counted() -> None:
    results = list(hunt(Hunt(1, 30), jobs=1))
    counted = tally(results)
    assert counted.faults.total() == sum(len(result.strikes) for result in results)
    assert len(counted.faults) > 10
    assert counted.visited["leading"] >= 30
    assert not any(result.timeline for result in results)
