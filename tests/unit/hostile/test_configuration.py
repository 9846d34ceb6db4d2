"""Configuration files: arbitrary ones, and valid ones made wrong. (See tests/unit/config too.)"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.backends import open_providers
from leadertag.config import toml
from leadertag.config.load import load
from leadertag.config.show import shown
from leadertag.errors import LeaderTagError
from leadertag.hooks.runner import HookRunner, WorkerPool
from tests.unit.cli.conftest import Cli
from tests.unit.hostile.anything import NASTY, hostile, mutated, outcome

VALID: dict[str, Any] = {
    "backend": "consul",
    "lock": "local",
    "state_dir": "/var/lib/leadertag",
    "backends": {
        "consul": {"address": "http://127.0.0.1:8500", "timeout": "2s", "token": "s3cr3t-t0k3n"},
        "etcd": {"endpoints": ["127.0.0.1:2379"], "timeout": "2s"},
        "local": {"path": "/tmp/x.db", "gate_life": "2s"},
    },
    "elections": {
        "redis": {
            "service": "redis", "query": "q", "tags": ["sensu"], "lease": "10s",
            "on_backend_loss": "demote", "query_options": {"only_passing": True, "dns_ttl": "1s"},
            "hooks": [
                {"use": "command", "events": ["promote", "demote"], "command": ["/bin/true"],
                 "timeout": {"promote": "10s", "demote": "1s"}},
                {"use": "redis", "url": "redis://:pa55w0rd@127.0.0.1:6379"},
            ],
            "instance": {
                "id": "r1", "address": "10.0.0.1", "port": 6379, "meta": {"v": "7"},
                "check": {"tcp": "127.0.0.1:6379", "interval": "500ms"}, "tags": ["sensu"],
            },
        },
    },
}  # fmt: skip
SECRETS = ("s3cr3t-t0k3n", "pa55w0rd")
LITERALS = [
    "nan", "-inf", "1e999", "9" * 5000, "0x" + "f" * 9000, "1979-05-27T07:32:00Z", "07:32:00",
    "[" * 3000, "{}", "'\\u0000'", '"\\u0000"', '"\\ud800"', '"""\nx\n"""', "true", "-0", "1_0",
    '"' + "x" * 100_000 + '"', "[[], [1, 'a', {}]]",
]  # fmt: skip


def plain(value: Any) -> Any:
    """The same without what TOML has no word for."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [plain(item) for item in value if item is not None]
    return value


def try_file(path: Path, data: bytes) -> Any:
    """Load it and go as far as a daemon would before it speaks to anybody."""
    path.write_bytes(data)
    path.chmod(0o600)

    def use() -> Any:
        settings = load(str(path), environ={"HOME": "/h"})
        toml.dumps(shown(settings))
        open_providers(settings, environ={}).close()
        pool = WorkerPool(0)
        for election in settings.elections:
            HookRunner(election.name, election.hooks, pool).close()
        pool.close()
        return settings

    found = outcome(use)
    if isinstance(found, LeaderTagError):
        assert not [secret for secret in SECRETS if secret in str(found)], found
    return found


def test_the_valid_file_is_valid(tmp_path: Path) -> None:
    found = try_file(tmp_path / "a.toml", toml.dumps(VALID).encode())
    assert not isinstance(found, LeaderTagError), found


@given(mutated(VALID))
@hostile(120)
def test_a_valid_file_made_wrong(tmp_path: Path, data: Any) -> None:
    text = toml.dumps(plain(data)) if isinstance(data, dict) else str(data)
    try_file(tmp_path / "a.toml", text.encode("utf-8", "surrogatepass"))


@given(st.data(), st.sampled_from(LITERALS))
@hostile(100)
def test_a_literal_of_another_kind_in_any_place(
    tmp_path: Path, data: st.DataObject, literal: str
) -> None:
    lines = toml.dumps(VALID).splitlines()
    places = [n for n, line in enumerate(lines) if " = " in line]
    for n in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        lines[n] = re.sub(r" = .*", lambda _: f" = {literal}", lines[n])
    try_file(tmp_path / "a.toml", "\n".join(lines).encode("utf-8", "surrogatepass"))


@given(
    st.sampled_from(["utf-8", "utf-16", "utf-32", "latin-1", "utf-8-sig"]),
    st.integers(0, 2000),
    st.sampled_from([*NASTY, "[[[", "]]", "#", "=", "'''", "[elections.redis]\n", "a.b.c = 1\n"]),
)
@hostile(100)
def test_another_encoding_or_something_in_the_middle(
    tmp_path: Path, encoding: str, place: int, text: str
) -> None:
    whole = toml.dumps(VALID)
    spoilt = whole[:place] + text + whole[place:]
    try_file(tmp_path / "a.toml", spoilt.encode(encoding, "replace"))


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    settings = try_file(tmp_path / "a.toml", toml.dumps(VALID).encode())
    written = toml.dumps(shown(settings))
    assert not [secret for secret in SECRETS if secret in written]
    assert tomllib.loads(written)["elections"]["redis"]["service"] == "redis"


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_number_without_bounds_is_one_line(
    cli: Cli, config: Callable[[str], str], form: list[str]
) -> None:
    """Python reads it in base 16, and refuses to write it in base 10."""
    path = config(f"[backends.consul]\nport = [1, {{ x = 0x{'f' * 9000} }}]\n")
    result = cli("--config", path, "config", "show", *form)
    assert result.code == 2
    assert "64 bits" in result.out + result.err
