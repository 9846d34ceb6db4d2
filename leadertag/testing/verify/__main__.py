"""Runs the contracts in this process, and tells what happens a line at a time, as JSON.

Started by :mod:`leadertag.testing.verify.runner`; the job comes on standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from leadertag.errors import BackendUnavailable, ConfigError, LeaderTagError, PermissionDenied

if TYPE_CHECKING:
    from leadertag.testing.verify.child import Verification

Tell = Callable[[Mapping[str, Any]], None]


class Starter:
    """A pytest plugin whose only work is to bring in the other one at the right moment."""

    def __init__(self, job: Mapping[str, Any], tell: Tell) -> None:
        self._job = job
        self._tell = tell
        self.verification: Verification | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the other plugin, or tell why nothing can be verified.

        Not earlier: a failing assert shows its values only in modules that are imported once
        pytest has begun.
        """
        from leadertag.testing.verify.child import Verification

        try:
            verification = Verification(self._job, self._tell)
            verification.preflight()
        except LeaderTagError as error:
            wrong = not isinstance(error, BackendUnavailable | PermissionDenied)
            told = {"error": str(error), "wrong": wrong, "config": isinstance(error, ConfigError)}
            self._tell(told)
            pytest.exit("nothing can be verified")
        config.pluginmanager.register(verification)
        self.verification = verification


def run(channel: TextIO) -> None:
    """Run the tests that the job asks for."""

    def tell(event: Mapping[str, Any]) -> None:
        print(json.dumps(event), file=channel, flush=True)

    here, starter = Path(__file__).parent, Starter(json.load(sys.stdin), tell)
    pytest.main(
        [
            # Nothing of a configuration, a conftest or a cache that is anybody's.
            "-c", os.devnull, "--rootdir", str(here), "--confcutdir", str(here),
            "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:faulthandler",
            "--import-mode=importlib", str(here / "suite.py"),
        ],
        plugins=[starter],
    )  # fmt: skip
    if starter.verification is not None:
        starter.verification.finish()


if __name__ == "__main__":
    # A copy, since pytest puts its own in the place of standard output while a test runs.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        run(out)
