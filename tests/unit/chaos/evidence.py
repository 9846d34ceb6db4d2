"""Evidence made by hand: the smallest run in which everything is as it should be."""

from __future__ import annotations

from typing import Any

Line = dict[str, Any]
ADDRESSES = {"n1": "10.77.0.1", "n2": "10.77.0.2", "n3": "10.77.0.3"}


class Story:
    """Lines in the order of time; each step is a second after the one before."""

    def __init__(self) -> None:
        self.t = 100.0
        self.index = 10
        self.lines: list[Line] = []
        self._pid = 1000
        self._tags = dict.fromkeys(ADDRESSES, ("chaos", "slave"))
        self._gates: dict[str, int] = {}
        self._passing = dict.fromkeys(ADDRESSES, True)
        self.tell("world", backend="consul", nodes={n: a for n, a in ADDRESSES.items()})

    def tell(self, kind: str, **fields: Any) -> Line:
        """Add a line."""
        line = {"t": self.t, "kind": kind, **fields}
        self.lines.append(line)
        return line

    def wait(self, seconds: float) -> Story:
        """Let time pass."""
        self.t = round(self.t + seconds, 6)
        return self

    # -- hooks ---------------------------------------------------------------------------

    def hook(self, node: str, event: str, term: int, *, took: float = 0.1, **more: Any) -> None:
        """A hook from start to end; ``ok=False`` for one that failed."""
        self.hook_start(node, event, term, alone=more.pop("alone", True))
        self.wait(took)
        self.hook_end(node, event, term, took=took, **more)

    def hook_start(self, node: str, event: str, term: int, *, alone: bool = True) -> None:
        """Its start."""
        self._pid += 1
        self.tell("hook", **self._hook(node, event, term), what="start", alone=alone)

    def hook_end(self, node: str, event: str, term: int, *, took: float = 0.1,
                 ok: bool = True) -> None:  # fmt: skip
        """Its end."""
        self.tell("hook", **self._hook(node, event, term), what="end", took=took, ok=ok, found="")

    def _hook(self, node: str, event: str, term: int) -> dict[str, Any]:
        place = "last" if event in ("demote", "fence") else "first"
        return {"node": node, "event": event, "term": term, "place": place, "pid": self._pid}

    # -- lock and registry -----------------------------------------------------------------

    def lock(
        self, node: str, term: int, phase: str, *, held: bool = True, reason: str = ""
    ) -> None:
        """A state of the lock."""
        self.index += 1
        record = {"node": node, "term": term, "phase": phase, "reason": reason}
        self.tell("lock", index=self.index, by="n1", held=held, record=record)

    def registry(self, **changed: Any) -> Line:
        """A state of the registry. ``changed`` replaces parts of single instances."""
        self.index += 1
        instances = {node: self._instance(node) for node in ADDRESSES}
        for node, parts in changed.items():
            instances[node].update(parts)
        return self.tell("registry", index=self.index, by="n1", instances=instances)

    def _instance(self, node: str) -> dict[str, Any]:
        checks = {"serfHealth": "passing", "tcp": "passing" if self._passing[node] else "critical"}
        if node in self._gates:
            checks[f"leadertag:redis:{self._gates[node]}"] = "passing"
        return {"id": "redis", "tags": list(self._tags[node]), "checks": checks,
                "registration": {"Port": 6379, "Meta": {"rack": node}}}  # fmt: skip

    # -- what a leader does ------------------------------------------------------------------

    def elect(self, node: str, term: int) -> None:
        """Take the lock and promote."""
        self.lock(node, term, "elected")
        self.hook(node, "promote", term)

    def publish(self, node: str, term: int) -> None:
        """Tag, gate, record."""
        self._tags[node], self._gates[node] = ("chaos", "master"), term
        self.lock(node, term, "leading")
        self.registry()

    def retract(self, node: str) -> None:
        """Take tag and gate off."""
        self._tags[node] = ("chaos", "slave")
        self._gates.pop(node, None)
        self.registry()

    def lead(self, node: str, term: int) -> None:
        """All of taking over."""
        self.elect(node, term)
        self.wait(0.1)
        self.publish(node, term)
        self.wait(1.0)

    def step_down(self, node: str, term: int) -> None:
        """All of giving up."""
        self.retract(node)
        self.hook(node, "demote", term)
        self.wait(0.01)
        self.lock(node, term, "released", held=False)
        self.wait(0.01)

    def kill_service(self, node: str) -> None:
        """It is gone; its check tells."""
        self.tell("unit", node=node, unit="redis", what="down", status=-9)
        self._passing[node] = False

    # -- the run ------------------------------------------------------------------------------

    def inject(self, number: int, name: str, node: str, *, bounds: tuple[str, ...] = (),
               successor: bool = True, leader: str = "n1", term: int = 5,
               mode: str = "settled") -> None:  # fmt: skip
        """A fault begins."""
        self.tell("fault", id=number, what="inject", name=name, node=node, mode=mode,
                  bounds=list(bounds), successor=successor, late=False, leader=leader,
                  term=term, done=self.t)  # fmt: skip

    def heal(self, number: int, name: str) -> None:
        """It is healed, and the world is at rest."""
        self.tell("fault", id=number, what="heal", name=name)
        self.wait(1.0)
        self.tell("settled", id=number, took=1.0)

    def ack(self, client: str, number: int, to: str, *, took: float = 0.001) -> None:
        """An entry is acknowledged."""
        sent = self.t
        self.wait(took)
        self.tell("ack", client=client, n=number, to=to, sent=sent, role="master", replid="r")


def two_terms() -> Story:
    """n1 leads with term 5 and steps down in order; n2 leads with term 9."""
    story = Story()
    story.registry()
    story.lead("n1", 5)
    story.step_down("n1", 5)
    story.lead("n2", 9)
    return story
