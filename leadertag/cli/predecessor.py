"""``consul-master-election-tagger``: the predecessor's command line, leadertag's election.

Its exact flags, as Go's package flag reads them: one or two dashes, the value behind
``=`` or as the next word, and nothing after the first word that is no flag.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from leadertag.errors import ConfigError, did_you_mean

SERVICE, QUERY, TAG = "consul-service-name", "consul-query-name", "consul-query-tag"
FLAGS = {
    QUERY: "name of the query that answers with the master",
    TAG: "tag that the query asks for; can be given several times ('master' always is)",
    SERVICE: "name of the service to tag with master and slave",
}
USAGE = "Usage of consul-master-election-tagger:\n" + "".join(
    f"  -{flag} string\n    \t{what}\n" for flag, what in sorted(FLAGS.items())
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the predecessor's command line as ``leadertag check``; returns the exit code."""
    from leadertag.cli.frame import guarded, new_namespace

    words = list(sys.argv[1:] if argv is None else argv)
    args = new_namespace()

    def body() -> int:
        flags = list(read_flags(words))
        if ("help", "") in flags:
            print(USAGE, end="", file=sys.stderr)
            return 0
        from leadertag.cli import check

        args.__dict__.update(vars(as_check(flags)), **vars(args))
        return check.run(args)

    return guarded(body, args)


def read_flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each flag with its value; ``help`` without one. ConfigError as Go would say it."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            return
        flag, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not flag or flag.startswith("-"):
            raise ConfigError(f"bad flag syntax: {word}")
        if flag in ("h", "help"):
            yield "help", ""
            return
        if flag not in FLAGS:
            near = did_you_mean(f"-{flag}", [f"-{known}" for known in FLAGS])
            raise ConfigError(f"flag provided but not defined: -{flag}{near}")
        if not equals:
            if not rest:
                raise ConfigError(f"flag needs an argument: -{flag}")
            value = rest.pop(0)
        yield flag, value


def as_check(flags: Sequence[tuple[str, str]]) -> object:
    """Return the namespace that ``leadertag check`` would have parsed."""
    import argparse

    from leadertag.cli import check
    from leadertag.cli.parsing import Parser
    from leadertag.config.elections import PREDECESSOR
    from leadertag.config.values import same_tag

    last = dict(flags)
    for flag in (SERVICE, QUERY):
        if not last.get(flag):
            raise ConfigError(f"-{flag} is missing")
    parser = Parser("leadertag check")
    check.add_arguments(parser)
    args = parser.parse_args([], argparse.Namespace())
    args.service, args.query = last[SERVICE], last[QUERY]
    args.tags = [
        value for flag, value in flags if flag == TAG and value and not same_tag(value, "master")
    ]
    args.leader_tag, args.follower_tag, args.compat = "master", "slave", PREDECESSOR
    return args
