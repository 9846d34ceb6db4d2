"""Reading the command line: one line for an error, with the near name, and no usage dump."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from leadertag.errors import ConfigError, did_you_mean

LEVELS = ("debug", "info", "warning", "error")


class HelpGiven(Exception):
    """``--help`` or ``--version`` was answered: nothing else is to be done."""


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are ConfigErrors, and which never ends the process."""

    def __init__(self, prog: str, description: str = "", epilog: str = "", **options: bool) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError in the words of the one who typed it."""
        verb = self.prog.partition(" ")[2]
        short = message.removeprefix("argument ")
        raise ConfigError(f"{verb}: {short}" if verb else short)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise HelpGiven: argparse calls this after it has printed a help."""
        raise HelpGiven

    def parse_all(self, words: Sequence[str], into: argparse.Namespace) -> None:
        """Parse all words; ConfigError names the first that means nothing, and the near one."""
        _, rest = self.parse_known_args(words, into)
        options = [word for word in rest if word.startswith("-") and word != "--"]
        if options:
            self.error(self.unknown_option(options[0]))
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")

    def unknown_option(self, word: str) -> str:
        """Return the message for an option that does not exist."""
        option = word.partition("=")[0]
        known = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", self.format_help())
        return f"unknown option {option}{did_you_mean(option, known)}"


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a type for an argument that is one of some names; tells the near one."""
    known = list(names)

    def choose(word: str) -> str:
        if word not in known:
            listed = ", ".join(known)
            raise argparse.ArgumentTypeError(
                f"{word!r} is none of {listed}{did_you_mean(word, known)}"
            )
        return word

    return choose


def seconds(word: str) -> float:
    """Read an option's duration: more than nothing, a day at most."""
    from leadertag.config.table import duration
    from leadertag.config.values import checked_time

    try:
        return checked_time(duration(word), repr(word))
    except (ValueError, ConfigError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """Add what every verb knows. Nothing is set where an option is absent."""
    group = parser.add_argument_group("options of every verb")
    group.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS,
        help="the configuration (else LEADERTAG_CONFIG, the user's, the system's)",
    )  # fmt: skip
    group.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, errors too"
    )
    group.add_argument(
        "--log-level", type=one_of(LEVELS), metavar="LEVEL", default=argparse.SUPPRESS,
        help=f"log to standard error: {', '.join(LEVELS)}",
    )  # fmt: skip
    group.add_argument(
        "-v", "--verbose", action="count", default=argparse.SUPPRESS,
        help="log more (-vv: everything), and show tracebacks",
    )  # fmt: skip


def parse(
    words: Sequence[str], verbs: Mapping[str, str], args: argparse.Namespace
) -> Callable[[], int]:
    """Return what the command line asks to be done."""
    about = "Keeps exactly one healthy instance of a service marked as its leader."
    top = Parser("leadertag", about, _list(verbs))
    top.add_argument("--version", action="store_true", help="print the version")
    add_global_options(top)
    top.add_argument("verb", nargs="?", metavar="VERB")
    top.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    try:
        top.parse_known_args(words, args)
        _refuse_unknown(top, words, args)
        if args.version:
            return _print_version
        if args.verb is None:
            top.error(f"name a verb: {', '.join(verbs)} (leadertag --help)")
        if args.verb not in verbs:
            hint = did_you_mean(args.verb, verbs) or f" (there are {', '.join(verbs)})"
            top.error(f"unknown verb {args.verb!r}{hint}")
        module = importlib.import_module(f"leadertag.cli.{args.verb}")
        parser = Parser(f"leadertag {args.verb}", module.__doc__ or verbs[args.verb])
        module.add_arguments(parser)
        add_global_options(parser)
        parser.parse_all(args.words, args)
    except HelpGiven:
        return lambda: 0
    run: Callable[[argparse.Namespace], int] = module.run
    return lambda: run(args)


def _refuse_unknown(top: Parser, words: Sequence[str], args: argparse.Namespace) -> None:
    """Refuse an unknown option before the verb; those after it are the verb's."""
    before = words[: len(words) - len(args.words)]
    _, unknown = top.parse_known_args(before, argparse.Namespace())
    if unknown:
        top.error(top.unknown_option(unknown[0]))


def _print_version() -> int:
    from leadertag import __version__

    print(f"leadertag {__version__}")
    return 0


def _list(verbs: Mapping[str, str]) -> str:
    width = max(map(len, verbs)) + 2
    lines = (f"  {verb:<{width}}{what}" for verb, what in verbs.items())
    return "verbs (leadertag VERB --help):\n" + "\n".join(lines)
