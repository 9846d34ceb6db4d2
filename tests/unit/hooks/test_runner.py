"""What HookRunner promises: order, isolation, time limits, lanes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from leadertag.hooks.outcome import Outcome
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent as Event
from tests.tools.processes import wait_until
from tests.unit.hooks.helpers import (
    LONG,
    WHERE,
    Spies,
    change,
    limits,
    vanished,
    wait_vanished,
)

MakeRunner = Callable[..., HookRunner]


@pytest.fixture
def background() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8)


def start(pool: ThreadPoolExecutor, runner: HookRunner, event: Event) -> Future[Outcome]:
    return pool.submit(runner.run, change(event))


# -- order and isolation -----------------------------------------------------------------


def test_hooks_run_in_order_and_a_failure_keeps_none_from_running(
    make_runner: MakeRunner, spies: Spies
) -> None:
    runner = make_runner(
        spies.hook("a", do={"promote": "fail:no way"}, where="f: hooks[0]"),
        spies.hook("b", do={"promote": "raise:odd"}),
        spies.hook("c"),
    )
    outcome = runner.run(change(Event.PROMOTE))
    assert spies.seen() == [
        "a promote begin",
        "b promote begin",
        "c promote begin",
        "c promote end",
    ]
    assert not outcome.ok
    assert outcome.message == "f: hooks[0]: spy: promote failed: no way"
    assert not outcome.cancelled


def test_an_exception_is_one_line_and_its_traceback_is_in_the_log(
    make_runner: MakeRunner, spies: Spies, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "raise:odd"}))
    with caplog.at_level(logging.INFO, "leadertag.hooks"):
        outcome = runner.run(change(Event.PROMOTE))
    assert outcome.message == f"{WHERE}: spy: promote failed: ValueError: odd"
    assert "in perform" in caplog.text


def test_success(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(spies.hook("a"), spies.hook("b"))
    outcome = runner.run(change(Event.PROMOTE))
    assert (outcome.ok, outcome.message, outcome.rank) == (True, "", None)
    assert outcome.seconds > 0


def test_the_first_veto_ends_before_promote(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(
        spies.hook("a"), spies.hook("b", do={"before_promote": "fail:not me"}), spies.hook("c")
    )
    assert runner.run(change(Event.BEFORE_PROMOTE)).message.endswith("not me")
    assert "b before_promote begin" in spies.seen()
    assert "c before_promote begin" not in spies.seen()


def test_without_hooks_every_event_succeeds(make_runner: MakeRunner) -> None:
    runner = make_runner()
    assert runner.run(change(Event.DEMOTE)).ok
    assert not runner.handles(Event.DEMOTE)
    assert runner.budget(Event.DEMOTE) == 0.0


def test_handles_and_budget_go_by_the_configured_events(
    make_runner: MakeRunner, spies: Spies
) -> None:
    runner = make_runner(
        spies.hook("a", timeouts=limits(1.5)),
        spies.hook("b", events=[Event.PROMOTE], timeouts=limits(2.0)),
    )
    assert runner.handles(Event.DEMOTE)
    assert runner.budget(Event.DEMOTE) == 1.5
    assert runner.budget(Event.PROMOTE) == 3.5
    assert not runner.handles(Event.PROBE)
    assert runner.run(change(Event.DEMOTE)).ok
    assert spies.seen() == ["a demote begin", "a demote end"]


def test_a_hook_is_told_its_term_and_the_time_that_it_has(
    make_runner: MakeRunner, spies: Spies
) -> None:
    make_runner(spies.hook("a", timeouts=limits(5.0))).run(change(Event.PROMOTE, term=41))
    _, _, _, term, timeout = spies.words()[-1]
    assert term == "41"
    assert 0 < float(timeout) < 5.0


# -- rank --------------------------------------------------------------------------------


def test_the_lowest_rank_counts(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(
        spies.hook("a", do={"rank": "return:12"}), spies.hook("b", do={"rank": "return:5"})
    )
    assert runner.run(change(Event.RANK)).rank == 5


@pytest.mark.parametrize("value", ["-1", "True", "None", "'7'", "1.5"])
def test_a_rank_that_is_none(make_runner: MakeRunner, spies: Spies, value: str) -> None:
    outcome = make_runner(spies.hook("a", do={"rank": f"return:{value}"})).run(change(Event.RANK))
    assert not outcome.ok
    assert outcome.rank is None
    assert "whole number" in outcome.message


# -- time limits -------------------------------------------------------------------------


def test_at_its_limit_a_hook_is_killed_with_all_its_children(
    make_runner: MakeRunner, spies: Spies, tmp_path: Path
) -> None:
    runner = make_runner(
        spies.hook("a", do={"demote": f"spawn:{tmp_path}/pid"}, timeouts=limits(demote=2.0)),
        spies.hook("b"),
    )
    assert runner.run(change(Event.PROMOTE)).ok  # from here on the worker is warm
    outcome = runner.run(change(Event.DEMOTE))
    assert not outcome.ok
    assert "its time limit" in outcome.message
    spawned = next(words for words in spies.words() if words[1] == "spawned")
    wait_vanished(spies.pid("a demote begin"), *(int(pid) for pid in spawned[2:]))
    assert "b demote end" in spies.seen()


def test_all_together_are_bounded_by_the_change(make_runner: MakeRunner, spies: Spies) -> None:
    do = {"promote": "hang"}
    runner = make_runner(spies.hook("a", do=do), spies.hook("b", do=do))
    assert runner.run(change(Event.FOLLOW)).ok  # from here on the worker is warm
    outcome = runner.run(change(Event.PROMOTE, timeout=0.5))
    assert not outcome.ok
    assert "a promote begin" in spies.seen()
    assert outcome.seconds < LONG


def test_a_replacement_takes_over_after_a_kill(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "hang"}, timeouts=limits(promote=0.5)))
    assert runner.run(change(Event.FOLLOW)).ok  # from here on the worker is warm
    assert not runner.run(change(Event.PROMOTE)).ok
    assert runner.run(change(Event.DEMOTE)).ok
    assert spies.pid("a promote begin") != spies.pid("a demote begin")


# -- ending early ------------------------------------------------------------------------


def test_cancel_ends_what_is_running(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "hang"}), spies.hook("b"))
    running = start(background, runner, Event.PROMOTE)
    spies.wait("a promote begin")
    runner.cancel()
    outcome = running.result(LONG)
    assert outcome.cancelled
    assert not outcome.ok
    assert "ended early" in outcome.message
    assert "b promote begin" not in spies.seen()
    wait_vanished(spies.pid("a promote begin"))


def test_cancel_has_no_effect_on_what_comes_later(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(spies.hook("a"))
    runner.cancel()
    outcome = runner.run(change(Event.PROMOTE))
    assert outcome.ok
    assert not outcome.cancelled


def test_demote_ends_a_promote_and_runs(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "hang"}))
    promoting = start(background, runner, Event.PROMOTE)
    spies.wait("a promote begin")
    waiting = start(background, runner, Event.FOLLOW)
    assert runner.run(change(Event.DEMOTE)).ok
    assert promoting.result(LONG).cancelled
    assert waiting.result(LONG).cancelled or "a follow end" in spies.seen()


def test_fence_ends_a_demote(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor
) -> None:
    runner = make_runner(spies.hook("a", do={"demote": "hang"}))
    demoting = start(background, runner, Event.DEMOTE)
    spies.wait("a demote begin")
    assert runner.run(change(Event.FENCE)).ok
    assert demoting.result(LONG).cancelled


def test_demote_ends_a_verify_which_has_then_failed(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor
) -> None:
    runner = make_runner(spies.hook("a", do={"verify": "hang"}))
    verifying = start(background, runner, Event.VERIFY)
    spies.wait("a verify begin")
    assert runner.run(change(Event.DEMOTE)).ok
    outcome = verifying.result(LONG)
    assert (outcome.ok, outcome.cancelled) == (False, True)


def test_a_verify_at_its_limit_has_failed(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(spies.hook("a", do={"verify": "hang"}))
    outcome = runner.run(change(Event.VERIFY, timeout=1.0))
    assert not outcome.ok
    assert "verify failed: killed after" in outcome.message


def test_actions_run_one_at_a_time(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    runner = make_runner(spies.hook("a", do={"promote": f"wait:{go}"}))
    first = start(background, runner, Event.PROMOTE)
    spies.wait("a promote begin")
    second = start(background, runner, Event.FOLLOW)
    assert spies.seen() == ["a promote begin"]
    go.touch()
    assert first.result(LONG).ok
    assert second.result(LONG).ok
    assert spies.seen()[1:] == ["a promote end", "a follow begin", "a follow end"]


# -- the informational lane --------------------------------------------------------------


def test_a_hanging_informational_hook_keeps_nobody_waiting(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    runner = make_runner(spies.hook("a", do={"role_changed": f"wait:{go}"}))
    informing = start(background, runner, Event.ROLE_CHANGED)
    spies.wait("a role_changed begin")
    later = start(background, runner, Event.LEADER_CHANGED)
    for event in (Event.PROMOTE, Event.DEMOTE, Event.FENCE):
        assert runner.run(change(event)).ok
    runner.cancel()
    assert not informing.done()
    go.touch()
    assert informing.result(LONG).ok
    assert later.result(LONG).ok
    seen = spies.seen()
    assert seen.index("a role_changed end") < seen.index("a leader_changed begin")
    assert spies.pid("a role_changed begin") != spies.pid("a demote begin")


def test_close_ends_informational_hooks_too(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor
) -> None:
    runner = make_runner(spies.hook("a", do={"role_changed": "hang"}))
    informing = start(background, runner, Event.ROLE_CHANGED)
    spies.wait("a role_changed begin")
    runner.close()
    assert informing.result(LONG).cancelled


# -- workers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "told"), [("die", "exit status 3"), ("crash", "killed by SIGKILL")]
)
def test_the_death_of_a_worker_is_a_failure_and_never_a_hang(
    make_runner: MakeRunner, spies: Spies, action: str, told: str
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": action}), spies.hook("b"))
    outcome = runner.run(change(Event.PROMOTE))
    assert outcome.message == (
        f"{WHERE}: spy: promote failed: its worker process was lost ({told})"
    )
    assert not outcome.cancelled
    assert "b promote end" in spies.seen()


def test_leaving_the_interpreter_is_a_failure_that_costs_no_worker(
    make_runner: MakeRunner, spies: Spies
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "leave"}))
    assert runner.run(change(Event.PROMOTE)).message.endswith("SystemExit: 3")
    assert runner.run(change(Event.DEMOTE)).ok
    assert spies.pid("a promote begin") == spies.pid("a demote begin")


def test_workers_are_warm_and_keep_the_hooks(
    pool: WorkerPool, make_runner: MakeRunner, spies: Spies
) -> None:
    runner = make_runner(spies.hook("a"))
    pool.warm()
    for _ in range(3):
        assert runner.run(change(Event.PROMOTE)).ok
    began = [words for words in spies.words() if words[2] == "begin"]
    assert len({words[3] for words in began}) == 1
    assert [words[4] for words in began] == ["1", "2", "3"]


def test_an_idle_worker_that_died_is_replaced(make_runner: MakeRunner, spies: Spies) -> None:
    runner = make_runner(spies.hook("a"))
    assert runner.run(change(Event.PROMOTE)).ok
    pid = spies.pid("a promote begin")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: vanished(pid), LONG, "the worker's end")
    assert runner.run(change(Event.DEMOTE)).ok


def test_a_worker_outlives_the_signal_that_systemd_sends_to_all(
    make_runner: MakeRunner, spies: Spies, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    runner = make_runner(spies.hook("a", do={"demote": f"wait:{go}"}))
    running = start(background, runner, Event.DEMOTE)
    spies.wait("a demote begin")
    os.kill(spies.pid("a demote begin"), signal.SIGTERM)
    go.touch()
    assert running.result(LONG).ok


def test_many_elections_at_once_get_more_workers(
    pool: WorkerPool, spies: Spies, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    runners = [
        HookRunner(f"e{n}", [spies.hook(f"h{n}", do={"demote": f"wait:{go}"})], pool)
        for n in range(4)
    ]
    running = [start(background, runner, Event.DEMOTE) for runner in runners]
    for n in range(4):
        spies.wait(f"h{n} demote begin")
    go.touch()
    assert all(one.result(LONG).ok for one in running)
    pids = {spies.pid(f"h{n} demote begin") for n in range(4)}
    assert len(pids) == 4
    wait_until(lambda: sum(not vanished(pid) for pid in pids) == 2, LONG, "two are kept")


def test_closing_the_pool_ends_the_workers(spies: Spies, background: ThreadPoolExecutor) -> None:
    pool = WorkerPool(1)
    runner = HookRunner("redis", [spies.hook("a", do={"promote": "hang"})], pool)
    running = start(background, runner, Event.PROMOTE)
    spies.wait("a promote begin")
    pool.close()
    assert not running.result(LONG).ok
    wait_vanished(spies.pid("a promote begin"))
    assert not runner.run(change(Event.DEMOTE)).ok
