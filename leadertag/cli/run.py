"""The daemon: takes part in all elections of the configuration, until a signal ends it.

SIGTERM and SIGINT end it in order (on_stop says what becomes of a leadership then); SIGHUP
reads the configuration anew, and a wrong one changes nothing. Logs to standard error.
"""

from __future__ import annotations

import argparse

from leadertag.cli.common import add_backend_options, chosen, load_settings, set_up_logging
from leadertag.config.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    set_up_logging(args, default="info")

    def load() -> Settings:
        settings = load_settings(args)
        chosen(settings, [])  # a daemon without elections would do nothing, for ever
        return settings

    load()  # a wrong configuration is told before anything heavy is imported
    from leadertag.daemon import service

    return service.run(load)
