"""The command line. Each verb is a module of its own, imported when it is used.

Options that every verb knows may stand before or after the verb. An error is one line on
standard error, ``leadertag: …``; with ``--json`` it is ``{"error": …, "exit_code": …}``
on standard output instead, so that a program has one place to read. The exit codes are
those of :mod:`leadertag.cli.exits`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

VERBS = {
    "run": "the daemon, for all elections of the configuration",
    "check": "one step of one election, for a health check",
    "status": "who leads, who follows, their health, tags and term",
    "history": "past changes of leader, with term, reason and the time without one",
    "switchover": "hand the leadership over to another member",
    "pause": "let nobody succeed the leader, for planned work",
    "resume": "end a pause",
    "query": "resolve a name as a client would",
    "explain": "the worst-case times of this configuration, with their parts",
    "config": "check or show the configuration",
    "plugins": "what is installed, and what failed to load and why",
    "demo": "three instances on the embedded backend: an election and a failover",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (without the program's name) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        from leadertag import __version__

        print(f"leadertag {__version__}")
        return 0
    from leadertag.cli.frame import guarded, new_namespace
    from leadertag.cli.parsing import parse

    args = new_namespace(json="--json" in words)

    def body() -> int:
        return parse(words, VERBS, args)()

    return guarded(body, args)
