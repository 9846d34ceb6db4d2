"""Prints the state diagram (Mermaid), made from the transition table."""

from __future__ import annotations

from leadertag.election.states import TRANSITIONS, State


def mermaid() -> str:
    """Return the diagram's text."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING}"]
    for source, exits in TRANSITIONS.items():
        for signal, target in exits.items():
            lines.append(f"    {source} --> {target}: {signal}")
    lines.append(f"    {State.STOPPED} --> [*]")
    return "\n".join(lines)


if __name__ == "__main__":
    print(mermaid())
