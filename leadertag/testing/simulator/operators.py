"""What operators ask for at bad moments: pause, resume, a switchover to one or to any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leadertag.plan import NO_PLAN, Plan, Switchover
from leadertag.testing.simulator.faults import Fault
from leadertag.testing.simulator.strikes import Strike

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World

OPERATOR = "operator"


def pause_elections(world: World, host: Host, strike: Strike) -> None:
    """Elections are paused for a while."""
    set_paused(world, True)

    def resume() -> None:
        if world.chaos.goes_on:
            resume_elections(world, host, strike)

    world.engine.after(world.scenario.policy.lease * (0.1 + 3 * strike.lasting), resume)


def resume_elections(world: World, _: Host, __: Strike) -> None:
    """Elections go on."""
    set_paused(world, False)


def set_paused(world: World, paused: bool) -> None:
    """Pause or resume."""
    write(world, replace(world.store.plan, paused=paused))


def switchover(world: World, host: Host, strike: Strike) -> None:
    """The leader is to hand over: to the member of that host, or to any."""
    record = world.store.view.leader
    if record is None:
        return
    wanted = "" if strike.first else f"node-{host.name}/{host.name}"
    ask_for_switchover(world, wanted, world.scenario.policy.lease * (0.3 + 6 * strike.lasting))


def ask_for_switchover(world: World, to: str, timeout: float) -> str:
    """Ask for it, in the present term; returns its id."""
    record = world.store.view.leader
    assert record is not None
    world.switchovers += 1
    asked = Switchover(f"sw{world.switchovers}", record.term, to=to, timeout=timeout, by=OPERATOR)
    write(world, replace(world.store.plan, switchover=asked))
    return asked.id


def withdraw(world: World, _: Host, __: Strike) -> None:
    """A switchover is taken back, whoever has accepted it."""
    write(world, replace(world.store.plan, switchover=None))


def write(world: World, plan: Plan) -> None:
    """Write the plan as an operator does: after reading it, so it is never another by then."""
    if plan != world.store.plan:
        world.store.write_plan(plan, OPERATOR)


def ask_for_nothing(world: World) -> None:
    """Take back everything that was asked for."""
    write(world, replace(NO_PLAN, index=world.store.plan.index))


OPERATIONS: dict[str, tuple[Fault, int]] = {
    "pause_elections": (pause_elections, 3), "resume_elections": (resume_elections, 1),
    "switchover": (switchover, 5), "withdraw": (withdraw, 1),
}  # fmt: skip
"""By name, as in FAULTS."""
