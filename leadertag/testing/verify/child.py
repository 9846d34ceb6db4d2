"""The pytest plugin that gives the contracts their harness, and tells what becomes of them.

Imported by ``python -m leadertag.testing.verify`` once pytest has begun.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, PermissionDenied, PluginBroken
from leadertag.plugins import Kind, load_provider
from leadertag.providers import (
    BackendContext,
    LockProvider,
    Provider,
    QueryProvider,
    RegistryProvider,
)
from leadertag.testing.contracts import Harness
from leadertag.testing.verify.member import read_something
from leadertag.testing.verify.parts import in_order, part_of, wanted_by
from leadertag.testing.verify.plain import PlainHarness

_BASES: Mapping[str, Any] = {
    "lock": LockProvider, "registry": RegistryProvider, "query": QueryProvider,
}  # fmt: skip
_WAITS, _EXPIRIES = 4, 5
"""How often a test may at most wait for all that should happen soon, and for a session's end."""


class Verification:
    """What the tests are given, and what is told of them.

    Raises PluginError for a plugin or a harness that cannot be loaded.
    """

    def __init__(self, job: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._job = job
        self._tell = tell
        self._kinds: list[Kind] = job["kinds"]
        self._classes = {kind: load_provider(kind, job["name"]) for kind in job["offered"]}
        self._make = _harness_class(job, self._classes)
        self._outcome: dict[str, Any] = {}
        self._left: dict[str, None] = {}

    # -- before ------------------------------------------------------------------------------

    def _context(self) -> BackendContext:
        return BackendContext(Table(self._job["settings"], self._job["where"]), os.environ)

    def preflight(self) -> None:
        """See that the harness can be made and that the backend answers, before all tests.

        Raises ConfigError, BackendUnavailable or PermissionDenied.
        """
        with self.make_harness() as harness:
            for provider in harness.join("a").providers:
                _answers(provider)
                provider.close()
            if isinstance(harness, PlainHarness) and self._locks(harness):
                self._left[harness.remains] = None
            own = "" if type(harness) is PlainHarness else _named(type(harness))
            limit = _WAITS * harness.patience + _EXPIRIES * harness.session_expiry
        self._tell({"limit": limit, "harness": own})

    def _locks(self, harness: PlainHarness) -> bool:
        """Whether any test takes a lock: a registry's do where it has instances for them."""
        used = "lock" in self._kinds or ("registry" in self._kinds and harness.self_registered)
        return bool(used and harness.remains)

    @contextmanager
    def make_harness(self) -> Iterator[Harness]:
        """Yield a harness of its own for one test."""
        harness = self._make(self._context())
        try:
            yield harness
        finally:
            close = getattr(harness, "close", None)
            if close is not None:
                close()
            self._left |= dict.fromkeys(getattr(harness, "left", ()))

    # -- fixtures ------------------------------------------------------------------------------

    @pytest.fixture(name="make_harness")
    def _fixture(self) -> Callable[[], AbstractContextManager[Harness]]:
        return self.make_harness

    @pytest.fixture
    def chosen(self) -> tuple[type[Provider], ...]:
        """The kinds of providers that are verified."""
        return tuple(_BASES[kind] for kind in self._kinds)

    # -- hooks ---------------------------------------------------------------------------------

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the kinds that are asked for, in order, without those done already."""
        kinds = {*self._kinds, "backend"}
        items[:] = [item for item in in_order(items) if _kind(item) in kinds]
        done = set(self._job["done"])
        self._tell({"tests": {
            item.nodeid: [_kind(item), part_of(item), wanted_by(item)] for item in items
        }})  # fmt: skip
        items[:] = [item for item in items if item.nodeid not in done]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell which test runs: the one to blame when nothing is heard any more."""
        self._outcome = {"test": nodeid, "outcome": "passed", "told": "", "trace": ""}
        self._tell({"start": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of a test's three phases, and of two the first."""
        if report.failed and self._outcome["outcome"] != "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            told = crash.message if crash is not None else report.longreprtext
            self._outcome |= {"outcome": "failed", "told": told, "trace": report.longreprtext}
        elif report.skipped and self._outcome["outcome"] == "passed":
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._outcome |= {"outcome": "skipped", "told": reason.removeprefix("Skipped: ")}

    def pytest_runtest_logfinish(self) -> None:
        """Tell what became of it."""
        self._tell(self._outcome)

    def finish(self) -> None:
        """Tell that all tests have run, and what is left behind."""
        self._tell({"done": True, "left": list(self._left)})


def _kind(item: pytest.Item) -> str:
    return str(getattr(item, "cls").__name__).removeprefix("Test").lower()  # noqa: B009


def _named(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _answers(provider: Provider) -> None:
    try:
        read_something(provider, "leadertag-verify-nobody")
    except (BackendUnavailable, PermissionDenied):
        raise
    except Exception:  # noqa: BLE001 - whatever else is wrong with the verb, a test tells it
        return


def _harness_class(
    job: Mapping[str, Any], classes: Mapping[Kind, type[Provider]]
) -> Callable[[BackendContext], Harness]:
    target, source = job["harness"], "--harness"
    if not target:
        entries = importlib.metadata.entry_points(group="leadertag.harness", name=job["name"])
        target = next((entry.value for entry in entries), "")
        source = f"the entry point {job['name']} of leadertag.harness"
    if not target:
        return lambda context: PlainHarness(context, classes, run=job["run"])
    if source == "--harness":
        sys.path.insert(0, os.getcwd())  # where its author stands; named, so it is meant
    module, _, name = target.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise PluginBroken(
            f"{source}: {target} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Harness)):
        raise PluginBroken(f"{source}: {target} is no leadertag.testing.contracts.Harness")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise PluginBroken(f"{source}: {target} lacks {', '.join(missing)}")
    if issubclass(found, PlainHarness):
        return lambda context: found(context, classes, run=job["run"])
    make: Callable[[BackendContext], Harness] = found
    return make
