"""The figures on evidence made by hand."""

from __future__ import annotations

from tests.chaos.figures import Figures, figures
from tests.chaos.report import Outcome, page
from tests.chaos.verdict import Judge
from tests.chaos.writes import Writes, judge_writes
from tests.unit.chaos.evidence import Story

SERVICE_FAILS, RESTART = "service fails", "time for a restart"


def figured(story: Story, **bounds: float) -> Figures:
    named = {name.replace("_", " "): seconds for name, seconds in bounds.items()}
    story.tell("bounds", bounds=[{"name": n, "seconds": s} for n, s in named.items()])
    return figures(story.lines, Judge(story.lines).judge().spans)


def failover(reason: str = "") -> Story:
    """n1's service is killed; 2.02 s later n2 is resolved."""
    story = Story()
    story.registry()
    story.lead("n1", 5)
    story.inject(1, "redis killed", "n1", bounds=(SERVICE_FAILS,))
    story.kill_service("n1")
    story.wait(0.5)
    story.registry()
    story.lock("n1", 5, "released", held=False, reason=reason)
    story.wait(1.32)
    story.lead("n2", 9)
    story.heal(1, "redis killed")
    return story


def test_a_failover_is_measured_from_the_fault_to_the_new_term() -> None:
    found = figured(failover(), service_fails=4.0)
    (fault,) = found.faults
    assert fault.new_leader is not None
    assert round(fault.new_leader, 2) == 2.02
    assert round(fault.leaderless, 2) == 1.52
    assert fault.unresolved == 0.5
    (bound,) = found.bounds
    assert bound.tight
    assert found.exceeded == []


def test_a_bound_that_was_exceeded_is_found() -> None:
    found = figured(failover(), service_fails=2.0)
    assert [finding.promise for finding in found.exceeded] == ["I5"]


def test_a_bound_that_says_too_little_is_told() -> None:
    (bound,) = figured(failover(), service_fails=7.0).bounds
    assert not bound.tight
    assert bound.ratio is not None
    assert round(bound.ratio, 1) == 3.5


def test_where_a_hook_failed_the_bounds_do_not_speak() -> None:
    found = figured(failover("hooks[0]: command: promote failed: exit status 1"), service_fails=1.0)
    assert found.exceeded == []
    assert found.faults[0].disturbed
    assert found.by_name() == {}


def restart(took: float, *, changed: bool) -> Story:
    story = Story()
    story.registry()
    story.lead("n1", 5)
    story.inject(1, "daemon restarted", "n1", bounds=(RESTART,), successor=False)
    story.wait(took)
    story.tell("restarted", node="n1", took=took)
    if changed:
        story.step_down("n1", 5)
        story.lead("n2", 9)
    story.heal(1, "daemon restarted")
    return story


def test_a_restart_in_time_that_changes_a_role_breaks_i6() -> None:
    found = figured(restart(1.0, changed=True), time_for_a_restart=1.4)
    assert [finding.promise for finding in found.exceeded] == ["I6"]


def test_a_restart_that_comes_too_late_may_change_a_role() -> None:
    found = figured(restart(1.5, changed=True), time_for_a_restart=1.4)
    assert found.exceeded == []
    assert found.late_restarts == 1


def test_a_restart_in_time_is_measured() -> None:
    found = figured(restart(1.0, changed=False), time_for_a_restart=1.4)
    assert found.bounds[0].observed == (1.0,)
    assert found.exceeded == []


# -- writes ------------------------------------------------------------------------------------


def written(story: Story, **surviving: list[int]) -> Writes:
    story.tell("surviving", entries=surviving)
    return judge_writes(story.lines, Judge(story.lines).judge().spans)


def test_what_a_leader_acknowledged_and_lost_is_redis_own() -> None:
    story = Story()
    story.lead("n1", 5)
    story.ack("client", 1, "10.77.0.1")
    story.ack("client", 2, "10.77.0.1")
    found = written(story, client=[1])
    assert (found.survived, found.lost_to_replication, found.outside) == (1, 1, 0)
    assert found.by_resolving == 2


def test_what_was_acknowledged_after_the_demotion_was_of_no_leader() -> None:
    story = Story()
    story.lead("n1", 5)
    story.step_down("n1", 5)
    story.ack("n1", 1, "127.0.0.1")
    found = written(story, n1=[])
    assert (found.outside, found.lost_to_two_leaders) == (1, 1)
    assert [example.promise for example in found.examples] == ["I1"]


def test_what_is_under_way_at_the_demotion_may_have_come_before_it() -> None:
    story = Story()
    story.lead("n1", 5)
    story.hook_start("n1", "demote", 5)
    sent = story.t
    story.wait(0.1)
    story.hook_end("n1", "demote", 5)
    story.wait(0.1)
    story.tell("ack", client="n1", n=1, to="127.0.0.1", sent=sent, role="master", replid="r")
    assert written(story, n1=[]).outside == 0


def test_what_was_acknowledged_beside_a_successor_was_lost_to_two_leaders() -> None:
    story = Story()
    story.lead("n1", 5)
    story.lock("n1", 5, "leading", held=False)
    story.wait(4.0)
    story.elect("n2", 9)
    story.ack("n1", 1, "127.0.0.1")
    assert written(story, n1=[]).lost_to_two_leaders == 1


def test_what_was_acknowledged_where_nobody_could_demote_is_counted_apart() -> None:
    story = Story()
    story.lead("n1", 5)
    story.ack("n1", 1, "127.0.0.1")
    story.wait(0.1).tell("excuse", node="n1", why="both killed")
    story.ack("n1", 2, "127.0.0.1")
    found = written(story, n1=[1])
    assert (found.excused, found.outside, found.survived) == (1, 0, 1)


# -- the page ------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else() -> None:
    story = failover()
    found = figured(story, service_fails=2.0)
    verdict = Judge(story.lines).judge()
    outcome = Outcome({"backend": "consul", "seed": 1}, verdict, found, written(story))
    text = page(outcome, sorted(story.lines, key=lambda line: float(line["t"])))
    assert "<svg" in text
    assert "redis killed (n1)" in text
    assert "broken 1 times" in text
    assert not any(word in text for word in ("src=", "href=", "url(", "<script"))
