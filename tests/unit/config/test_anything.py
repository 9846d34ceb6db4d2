"""Whatever stands in the file or in the environment: settings or one line, never a traceback."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadertag.config import toml
from leadertag.config.elections import FIELDS
from leadertag.config.load import load
from leadertag.config.settings import Settings
from leadertag.config.show import shown
from leadertag.config.table import duration
from leadertag.errors import ConfigError
from leadertag.hookspecs import HookEvent

KEYS = [
    "backend", "lock", "registry", "query", "state_dir", "backends", "elections", "hooks",
    "instance", "query_options", "check", "use", "events", "timeout", "id", "address", "port",
    "meta", "tcp", "http", "command", "interval", "near", "dns_ttl", "only_passing",
    "failover_nearest", *FIELDS, *HookEvent,
]  # fmt: skip
WORDS = [
    "",
    "redis",
    "local",
    "master",
    "slave",
    "3s",
    "500ms",
    "0s",
    "a/b",
    "/x",
    "h:1",
    "http://h",
]
texts = st.sampled_from(WORDS + KEYS) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)
scalars = texts | st.booleans() | st.integers(-2, 70000) | st.floats(allow_nan=False)
keys = st.sampled_from(KEYS) | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)
elections = st.dictionaries(texts, st.dictionaries(keys, values, max_size=6), max_size=3)
documents = st.fixed_dictionaries(
    {}, optional={"elections": elections | values, "backends": values, "backend": values}
) | st.dictionaries(keys, values, max_size=4)
variables = st.dictionaries(
    st.sampled_from([
        "LEADERTAG_BACKEND", "LEADERTAG_LEASE", "LEADERTAG_STATE_DIR", "LEADERTAG_ON_STOP",
        "LEADERTAG_ELECTIONS__REDIS__LEASE", "LEADERTAG_ELECTIONS__REDIS__TAGS",
        "LEADERTAG_BACKENDS__LOCAL__PATH", "LEADERTAG_BACKENDS__LOCAL__A__B", "LEADERTAG_X__Y",
    ]) | st.text(string.ascii_uppercase + "_", max_size=6).map("LEADERTAG_BACKENDS__".__add__),
    texts | st.text(max_size=6),
    max_size=3,
)  # fmt: skip


def attempt(path: str, environ: dict[str, str]) -> Settings | None:
    try:
        return load(path, environ=environ)
    except ConfigError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


@given(data=documents, environ=variables)
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_tables(data: dict[str, Any], environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "any.toml"
    path.write_text(toml.dumps(data), encoding="utf-8")
    path.chmod(0o600)
    found = attempt(str(path), {"HOME": "/h", **environ})
    if found is not None:
        toml.dumps(shown(found))


@given(data=st.binary(max_size=60) | st.text("[]{}=\"'.#\n a1\0\r\\", max_size=40).map(str.encode))
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_bytes(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    attempt(str(path), {"HOME": "/h"})


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = duration(text)
    except ValueError as error:
        message = str(error)
    else:
        assert seconds >= 0
        return
    assert repr(text) in message


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]))
def test_durations(number: int, unit: tuple[str, float]) -> None:
    assert duration(f"{number}{unit[0]}") == pytest.approx(number * unit[1])
