"""The import budget: what each command line may load, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

BACKENDS = {
    "requests", "consul", "grpc", "etcd3", "sqlite3", "redis", "jinja2",
    "leadertag_local", "leadertag_consul", "leadertag_etcd",
}  # fmt: skip
ENGINE = {"stevedore", "leadertag.scheduler", "leadertag.oneshot", "leadertag.backends",
          "leadertag.hooks.runner", "subprocess", "http.client", "ssl"}  # fmt: skip
PROBE = """
import contextlib, io, json, sys
from {module} import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""
CONFIG = """
backend = "consul"
[backends.consul]
address = "http://127.0.0.1:8500"
[elections.redis]
service = "redis"
query = "q"
[[elections.redis.hooks]]
use = "redis"
url = "redis://127.0.0.1:6379"
"""


def modules(*words: str, code: int = 0, module: str = "leadertag.cli") -> set[str]:
    """Return what a command line loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module), *words],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found, names = json.loads(done.stdout)
    assert found == code
    return set(names)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("--help",), 0),
        (("config", "check"), 0),
        (("config", "show"), 0),
        (("check", "--help"), 0),
        (("status", "--nonsense"), 2),
        (("query", "no/name"), 2),
        (("switchover", "--help"), 0),
        (("switchover", "elsewhere"), 2),
        (("pause", "--query", "q"), 2),
        (("resume", "elsewhere"), 2),
        (("history", "--limit", "0"), 2),
    ],
)
def test_neither_a_backend_nor_the_engine(
    words: tuple[str, ...], code: int, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADERTAG_CONFIG", config(CONFIG))
    assert not modules(*words, code=code) & (BACKENDS | ENGINE)


def test_the_version_costs_next_to_nothing() -> None:
    loaded = modules("--version")
    assert not loaded & {"argparse", "logging", "pluggy", "tomllib"}
    assert {name for name in loaded if name.startswith("leadertag")} == {
        "leadertag",
        "leadertag.cli",
    }


def test_the_predecessor_s_usage_loads_nothing_either() -> None:
    loaded = modules("-h", module="leadertag.cli.predecessor")
    assert not loaded & (BACKENDS | ENGINE | {"pluggy"})


@pytest.mark.parametrize(
    ("verb", "code"), [("history", 0), ("pause", 0), ("resume", 0), ("switchover", 1)]
)
def test_planned_changes_need_one_backend_and_no_election(
    verb: str, code: int, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.replace('backend = "consul"', 'backend = "local"')
    monkeypatch.setenv("LEADERTAG_CONFIG", config(text))
    loaded = modules(verb, code=code)
    assert "leadertag_local" in loaded
    assert not loaded & (BACKENDS - {"leadertag_local", "sqlite3"})
    assert not loaded & {"leadertag.oneshot", "leadertag.daemon.service"}


def test_one_backend_does_not_load_the_other(
    config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADERTAG_CONFIG", config('backend = "local"'))
    loaded = modules("query", "nobody", code=1)
    assert "leadertag_local" in loaded
    assert not loaded & {"leadertag_consul", "consul", "requests"}
