"""The contracts of :mod:`leadertag.providers` as tests, for authors of backends.

Write a :class:`Harness` for the backend and subclass the contracts in a test module::

    class TestMyLock(LockContract):
        @pytest.fixture
        def harness(self, tmp_path):
            return MyHarness(tmp_path)

Each test checks one documented sentence. What a provider declares among its
characteristics and does not keep is a failure, never a skip; so is a verb that does
nothing and says nothing. pytest is needed here and nowhere else in the package.
"""

from __future__ import annotations

import pytest

_MODULES = (
    "harness", "base", "holding", "notes", "lock", "registry", "gates", "fenced", "query",
    "backend",
)  # fmt: skip
# Before they are imported, so that a failing assert shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _MODULES))

from leadertag.testing.contracts.backend import BackendContract  # noqa: E402
from leadertag.testing.contracts.harness import Harness, Member  # noqa: E402
from leadertag.testing.contracts.lock import LockContract  # noqa: E402
from leadertag.testing.contracts.notes import NotesContract  # noqa: E402
from leadertag.testing.contracts.query import QueryContract  # noqa: E402
from leadertag.testing.contracts.registry import RegistryContract  # noqa: E402

__all__ = [
    "BackendContract",
    "Harness",
    "LockContract",
    "Member",
    "NotesContract",
    "QueryContract",
    "RegistryContract",
]
