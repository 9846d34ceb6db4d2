"""The etcd extra with the newest protobuf and grpcio, in an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import on_ci
from tests.tools.addresses import lease_address
from tests.tools.etcd import EtcdMember
from tests.tools.leadertag import COMMAND, Daemon, Finished, run_program, to_toml
from tests.tools.processes import wait_until

CHECKOUT = Path(__file__).resolve().parents[3]
SOURCES = ("leadertag", "plugins", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
ALONE = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
PATIENCE = 60.0
"""Seconds for anything that is waited for: a bound for hanging tests, not a measurement."""
_VERSIONS = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({n: m.version(n) for n in ('protobuf', 'grpcio', 'etcd3')}))"
)


class Fresh:
    """A virtual environment with leadertag, its etcd extra, and nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.python = folder / "venv" / "bin" / "python"

    def install(self) -> None:
        """Skips, or on CI fails, when pip reaches no package registry."""
        sources = self._folder / "sources"
        sources.mkdir()
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        for name in SOURCES:
            if (CHECKOUT / name).is_dir():
                shutil.copytree(CHECKOUT / name, sources / name, ignore=unwanted)
            else:
                shutil.copy(CHECKOUT / name, sources / name)
        venv.create(self._folder / "venv", with_pip=True)
        missing = self._pip("download", "--no-deps", "-d", str(self._folder), "protobuf")
        if missing and on_ci():
            pytest.fail(missing, pytrace=False)
        if missing:
            pytest.skip(missing)
        newest = ("--upgrade", "--upgrade-strategy", "eager", "protobuf", "grpcio")
        assert not (why := self._pip("install", *newest, f"{sources}[etcd]")), why

    def _pip(self, *words: str) -> str:
        """Why `pip WORDS` failed; "" when it did not."""
        done = run_program([str(self.python), "-m", "pip", *words, "-q"], ALONE, timeout=300)
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return "" if done.exit_code == 0 else f"pip {words[0]}: {last}"

    def leadertag(self, *words: str) -> Finished:
        """``leadertag WORDS`` of that environment."""
        return run_program([str(self.python), "-m", "leadertag", *words], ALONE)


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    made = Fresh(tmp_path / "fresh")
    (tmp_path / "fresh").mkdir()
    made.install()
    return made


@pytest.fixture
def config(etcd: EtcdMember, tmp_path: Path, unique_name: str) -> Iterator[Path]:
    """An election whose service is always well."""
    with lease_address() as lease:
        path = tmp_path / "leadertag.toml"
        instance = {"id": "redis", "address": lease.address, "port": 6379,
                    "check": {"command": ["true"]}}  # fmt: skip
        path.write_text(to_toml({
            "backend": "etcd",
            "state_dir": str(tmp_path / "state"),
            "backends": {"etcd": {
                "endpoints": [etcd.address], "node": "n1", "prefix": unique_name,
            }},
            "elections": {"redis": {
                "service": "redis", "query": "redis-master", "lease": "3s", "instance": instance,
            }},
        }))  # fmt: skip
        yield path


@pytest.mark.timeout(600)
def test_status_with_the_newest_libraries(fresh: Fresh, config: Path) -> None:
    done = subprocess.run([fresh.python, "-c", _VERSIONS], capture_output=True, check=True)
    versions = json.loads(done.stdout)
    print(versions)
    assert int(versions["protobuf"].split(".")[0]) >= 4, "etcd3 alone imports with older ones only"

    before = fresh.leadertag("--config", str(config), "status", "--json")
    assert before.stderr == ""
    assert before.json["elections"][0]["leader"] is None

    daemon = Daemon(config, name="newest", env=ALONE)
    words = daemon.process.argv
    at = words.index(COMMAND[0])
    words[at] = str(fresh.python)
    assert sys.executable not in words
    daemon.start()
    try:

        def leads() -> bool:
            found = fresh.leadertag("--config", str(config), "status", "--json").json
            return bool(found["elections"][0]["phase"] == "leading")

        wait_until(leads, PATIENCE, "the one member leads")
        shown = fresh.leadertag("--config", str(config), "status")
        assert shown.exit_code == 0
        assert "redis" in shown.stdout
    finally:
        daemon.kill_all()
