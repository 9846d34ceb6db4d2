"""What a seed stands for: the settings of an election and of the world that it runs in."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadertag.config.settings import ElectionSettings
from leadertag.election.policy import RATE, SLACK, Policy, check_timing
from leadertag.hookspecs import HookEvent
from leadertag.model import QueryDefinition
from leadertag.testing.simulator.strikes import Strike

DRIFT = 0.0475
"""Clock rates differ by that much from real time: hardly less than 10 % from each other."""
BASE_TAGS = ("sensu", "blue")
"""Tags that every registration has by itself."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times are seconds; those of hosts are told by their own clocks."""

    seed: int
    policy: Policy
    members: int
    fenced: bool
    gate_life: float
    session_ttl: float
    node_loss: float
    """How long the backend takes to notice that a node is gone."""
    patience: float
    """How long a request waits for its answer."""
    read_back: float
    sync_every: float
    """Full synchronization of an agent with the catalog."""
    chaos: float
    """How long faults go on."""
    faults: int
    """About how many of them."""
    ambush: float
    """How likely a fault strikes at the very moment when a member changes its state."""
    loss: float
    """How likely a request or its answer is lost."""
    late: float
    """How likely one is late beyond patience."""
    slow_agent: float
    """How likely the own agent takes its time, up to 0.4 leases, for a request."""
    hook_trouble: float
    filtered: float
    """How likely a member list comes back empty or without the reader."""
    guardian: bool = True
    always_fed: bool = False
    """The process leads another election too, so its gates are fed all the time."""
    hooks: Mapping[HookEvent, float] = field(default_factory=dict)
    operations: int = 0
    """About how often an operator asks for something: pause, resume, switchover."""
    one_shot: tuple[float, float] | None = None
    """Interval and time-out of ``check``, where that is run instead of the daemon."""
    strikes: tuple[Strike, ...] | None = None
    """Exactly what befalls the world, and when, instead of what is drawn."""
    delays: int = 0
    """The source of all other chance, with the seed: of delays, losses and troubles."""

    @property
    def verifies(self) -> bool:
        """Whether a ``verify`` hook and a probe find out about a service that was restarted."""
        return self.policy.budget(HookEvent.VERIFY) > 0

    @property
    def hollow(self) -> float:
        """Seconds for which somebody may resolve as leader whose service does not lead.

        The longest that nothing gets through, twice, and what it takes to see, ask and retract.
        """
        between = sum(self.one_shot) if self.one_shot else 0.0
        cut = 2.5 * self.policy.lease + self.node_loss
        return 2 * cut + self.gate_life + self.policy.budget(HookEvent.VERIFY) + 2 * between + 5.0

    @property
    def election(self) -> ElectionSettings:
        """The election's settings."""
        return self.policy.election


def draw(seed: int, *, members: int = 0, guardian: bool = True) -> Scenario:
    """Return the scenario of a seed; ``members`` > 0 overrides the drawn number."""
    rng = random.Random(f"scenario {seed}")  # noqa: S311 - chance to be repeated
    lease = rng.choice((1.0, 2.0, 3.0))
    fenced = rng.random() < 0.3
    check = fenced and random.Random(f"kind {seed}").random() < 0.25  # noqa: S311
    lease *= 4 if check else 1
    compat = not fenced and rng.random() < 0.12
    gate_life = rng.choice((0.5, 1.0, 2.0))
    budgets = _budgets(rng, lease)
    verify = random.Random(f"verify {seed}").choice((0.0, 0.0, 0.3, 1.0))  # noqa: S311
    if verify:
        budgets[HookEvent.VERIFY] = verify
    policy = Policy(
        election=_election(rng, lease, compat), gated=not check, fenced=fenced,
        gate_life=gate_life, budgets=budgets,
    )  # fmt: skip
    check_timing(
        policy.election, demote=policy.budget(HookEvent.DEMOTE),
        fence=policy.budget(HookEvent.FENCE),
    )  # fmt: skip
    # The lock is confirmed at the beginning of each run: the next one has to begin in time.
    one_shot = (0.3 * policy.contact_limit, 0.5 * policy.contact_limit) if check else None
    trouble = rng.random()
    return Scenario(
        seed=seed, policy=policy, members=members or rng.choice((1, 2, 3, 3, 3, 4, 5)),
        fenced=fenced, gate_life=gate_life, session_ttl=lease * rng.uniform(0.7, 2.0),
        node_loss=lease * rng.uniform(0.1, 1.5), patience=rng.choice((0.2, 0.5, 1.0)),
        read_back=rng.choice((0.5, 2.0)), sync_every=rng.uniform(3.0, 15.0),
        chaos=rng.uniform(4.0, 7.0) * lease, faults=rng.randint(0, 8),
        ambush=rng.choice((0.0, 0.02, 0.1)), loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
        late=rng.choice((0.0, 0.0, 0.02, 0.08)), slow_agent=rng.choice((0.0, 0.005, 0.1)),
        hook_trouble=trouble * trouble * 0.3,
        filtered=rng.choice((0.0, 0.0, 0.2)), guardian=guardian,
        always_fed=rng.random() < 0.1,
        hooks=budgets, one_shot=one_shot, operations=rng.choice((0, 0, 1, 3)),
    )  # fmt: skip


def _election(rng: random.Random, lease: float, compat: bool) -> ElectionSettings:
    definition = QueryDefinition("redis-master", "redis", ("master", "sensu"))
    return ElectionSettings(
        name="redis", service="redis", where="the simulator", query="redis-master",
        tags=("sensu",), lease=lease, stand_back=rng.choice((0.5, 2.0, 5.0)),
        on_backend_loss=rng.choice(("demote", "demote", "demote", "hold")),
        compat="consul-master-election-tagger" if compat else "",
        query_definition=definition if rng.random() < 0.5 else None,
    )  # fmt: skip


def _budgets(rng: random.Random, lease: float) -> dict[HookEvent, float]:
    """Draw the hooks' limits. Demote and fence share what the lease leaves for them."""
    room = (RATE - 0.25) * lease - SLACK
    fence = rng.choice((0.0, 0.3)) * room
    demote = rng.choice((0.0, 0.2, 0.5, 0.99)) * (room - fence)
    drawn = {
        HookEvent.BEFORE_PROMOTE: rng.choice((0.0, 0.3)),
        HookEvent.RANK: rng.choice((0.0, 0.0, 0.2)),
        HookEvent.PROMOTE: rng.choice((0.0, 0.3, 1.0, 2.5)),
        HookEvent.DEMOTE: demote,
        HookEvent.FENCE: fence,
        HookEvent.FOLLOW: rng.choice((0.0, 0.5, 1.0)),
        HookEvent.ROLE_CHANGED: rng.choice((0.0, 0.5)),
        HookEvent.LEADER_CHANGED: rng.choice((0.0, 0.5)),
    }
    return {event: limit for event, limit in drawn.items() if limit > 0}
