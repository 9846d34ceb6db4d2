"""The verdict on evidence made by hand: each promise broken once, and none of them broken."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.chaos.verdict import Judge, Verdict
from tests.unit.chaos.evidence import Line, Story, two_terms


def judged(lines: Iterable[Line]) -> Verdict:
    return Judge(lines).judge()


def promises(story: Story) -> list[str]:
    return [finding.promise for finding in judged(story.lines).broken]


def test_an_orderly_change_breaks_nothing() -> None:
    verdict = judged(two_terms().lines)
    assert verdict.broken == []
    assert [(span.node, span.term, span.end) for span in verdict.spans] == [
        ("n1", 5, "demote"), ("n2", 9, ""),
    ]  # fmt: skip
    assert verdict.terms == 2
    assert verdict.published == 2


# -- I1 --------------------------------------------------------------------------------------


def test_two_that_act_break_i1() -> None:
    story = Story()
    story.lead("n1", 5)
    story.lock("n1", 5, "leading", held=False)
    story.wait(4.0)
    story.elect("n2", 9)
    assert promises(story) == ["I1"]


def test_a_release_before_the_demotion_breaks_i1() -> None:
    story = Story()
    story.lead("n1", 5)
    story.lock("n1", 5, "released", held=False)
    assert promises(story) == ["I1"]


def test_a_demotion_that_failed_ends_nothing() -> None:
    story = Story()
    story.lead("n1", 5)
    story.hook("n1", "demote", 5, ok=False)
    story.lock("n1", 5, "released", held=False)
    assert promises(story) == ["I1"]


@pytest.mark.parametrize("ending", ["fence", "the service is gone"])
def test_fence_and_death_end_the_acting(ending: str) -> None:
    story = Story()
    story.lead("n1", 5)
    if ending == "fence":
        story.hook("n1", "demote", 5, ok=False)
        story.hook("n1", "fence", 5)
    else:
        story.kill_service("n1")
    story.lock("n1", 5, "released", held=False)
    story.elect("n2", 9)
    verdict = judged(story.lines)
    assert verdict.broken == []
    assert verdict.spans[0].end == ending


def test_where_guardian_and_daemon_are_gone_i1_is_not_promised() -> None:
    story = Story()
    story.lead("n1", 5)
    story.tell("excuse", node="n1", why="both killed")
    story.lock("n1", 5, "leading", held=False)
    story.retract("n1")
    story.wait(4.0)
    story.lead("n2", 9)
    verdict = judged(story.lines)
    assert verdict.broken == []
    assert verdict.spans[0].excused is not None


def test_a_leader_that_was_never_promoted_breaks_i1() -> None:
    story = Story()
    story.lock("n1", 5, "elected")
    story.publish("n1", 5)
    assert promises(story) == ["I1"]


# -- I2 --------------------------------------------------------------------------------------


def test_two_that_resolve_at_one_index_break_i2() -> None:
    story = two_terms()
    story.registry(n1={"tags": ["chaos", "master"]})
    assert promises(story) == ["I2"]


def test_an_index_that_is_seen_late_counts_too() -> None:
    story = two_terms()
    late = story.registry(n1={"tags": ["chaos", "master"]})
    late["index"] = 3
    assert promises(story) == ["I2"]


def test_a_leader_that_does_not_pass_is_none() -> None:
    story = two_terms()
    story.registry(n1={"tags": ["chaos", "master"], "checks": {"serfHealth": "passing",
                                                               "tcp": "critical"}})  # fmt: skip
    assert promises(story) == []


def test_two_answers_of_the_query_break_i2() -> None:
    story = two_terms()
    story.tell("resolved", client="client", hosts=["10.77.0.1", "10.77.0.2"])
    assert promises(story) == ["I2"]


def test_resolving_before_promote_has_ended_breaks_i2() -> None:
    story = Story()
    story.lock("n1", 5, "elected")
    story.hook_start("n1", "promote", 5)
    story.publish("n1", 5)
    assert promises(story) == ["I2"]


# -- I3 --------------------------------------------------------------------------------------


def test_a_term_that_does_not_increase_breaks_i3() -> None:
    story = two_terms()
    story.step_down("n2", 9)
    story.lock("n3", 7, "elected")
    assert promises(story) == ["I3"]


def test_a_hook_that_is_told_anothers_term_breaks_i3() -> None:
    story = Story()
    story.lock("n1", 5, "elected")
    story.hook("n2", "promote", 5)
    assert promises(story) == ["I3"]


def test_a_demotion_that_is_told_a_wrong_term_breaks_i3() -> None:
    story = Story()
    story.lead("n1", 5)
    story.hook("n1", "demote", 4)
    assert promises(story) == ["I3"]


def test_the_two_writes_of_an_acquisition_are_one_term() -> None:
    story = Story()
    story.lock("n1", 0, "elected")
    story.lead("n1", 5)
    assert promises(story) == []


# -- I4 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("checks", {"serfHealth": "passing"}),
        ("registration", {"Port": 6379, "Meta": {}}),
        ("tags", ["slave"]),
    ],
)
def test_what_is_not_leadertags_stays(part: str, value: object) -> None:
    story = two_terms()
    story.registry(n3={part: value})
    assert promises(story) == ["I4"]


# -- I5 --------------------------------------------------------------------------------------


def test_a_world_that_does_not_come_to_rest_breaks_i5() -> None:
    story = two_terms()
    story.tell("unsettled", id=3, why="nobody is resolved as leader")
    assert promises(story) == ["I5"]


# -- I7 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waited", "broken"), [(1.0, ["I7"]), (3.0, [])])
def test_a_lock_without_a_mark_is_waited_for(waited: float, broken: list[str]) -> None:
    story = Story()
    story.lead("n1", 5)
    story.kill_service("n1")
    story.lock("n1", 5, "leading", held=False)
    story.lock("n2", 0, "elected")
    story.lock("n2", 9, "elected")
    story.wait(waited)
    story.hook("n2", "promote", 9)
    assert promises(story) == broken


def test_one_that_gave_back_unmarked_what_it_had_to_wait_for_passes_that_on() -> None:
    story = Story()
    story.lead("n1", 5)
    story.kill_service("n1")
    story.lock("n1", 5, "leading", held=False)
    story.lock("n2", 9, "elected")
    story.lock("n2", 9, "elected", held=False)
    story.elect("n3", 12)
    assert promises(story) == ["I7"]


# -- I8 --------------------------------------------------------------------------------------


def test_two_hooks_at_once_break_i8() -> None:
    story = Story()
    story.lock("n1", 5, "elected")
    story.hook_start("n1", "promote", 5)
    story.hook("n1", "demote", 5, alone=False)
    assert promises(story) == ["I8"]


def test_a_hook_that_was_killed_is_none_any_more() -> None:
    story = Story()
    story.lock("n1", 5, "elected")
    story.hook_start("n1", "promote", 5)
    story.hook("n1", "demote", 5)
    assert promises(story) == []


def test_a_hook_past_its_limit_breaks_i8() -> None:
    story = Story()
    story.lead("n1", 5)
    story.hook("n1", "demote", 5, took=1.5)
    assert promises(story) == ["I8"]
