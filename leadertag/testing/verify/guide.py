"""A pytest plugin for a backend that is being written: ``-p leadertag.testing.verify.guide``.

It puts the contracts' tests in the order in which verbs build on each other, and ends with the
verb to write next: the first one that raised NotImplementedError.
"""

from __future__ import annotations

import pytest

from leadertag.testing.verify.parts import in_order

_NEXT = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing to write."""
    config.stash[_NEXT] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in order."""
    items[:] = in_order(items)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count the failures of each verb that is not written yet; the report is pytest's to make."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, NotImplementedError):
        unwritten = item.config.stash[_NEXT]
        unwritten[str(error)] = unwritten.get(str(error), 0) + 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell what to write next."""
    unwritten = config.stash[_NEXT]
    if unwritten:
        verb, _, what = next(iter(unwritten)).partition(": ")
        line = f"write next: {verb} ({unwritten[f'{verb}: {what}']} tests wait for it): {what}"
        terminalreporter.write_line(line, bold=True)
