"""A few faults on real servers: the short run of :mod:`tests.chaos`, and what it must find.

What has to hold on any machine, however slow, is held here; the bounds are for the long
run, on a machine that does nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import BROKEN, IMPOSSIBLE
from tests.conftest import need
from tests.tools.leadertag import clean_environment

ROOT = Path(__file__).parents[2]
PATIENCE = 170.0
"""Seconds: a bound for a run that hangs."""
EVERYWHERE = ["redis killed", "daemon killed", "planned stop", "guardian killed"]
RUNS = {
    "consul": [*EVERYWHERE, "agent reloaded", "leader isolated"],
    "local": [*EVERYWHERE, "redis stopped"],
}


def chaos(report: Path, backend: str, faults: list[str], *options: str) -> tuple[int, Any]:
    """Exit status and figures of one run; skips where this machine cannot have one."""
    need("redis-server", *(["consul"] if backend == "consul" else []))
    pytest.importorskip("redis")
    wanted = [word for name in faults for word in ("--only", name)]
    argv = ["--backend", backend, "--seed", "1", "--report", str(report), *wanted, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *argv], cwd=ROOT, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # it removes its namespaces and processes
        process.wait(30)
    print(output)
    if process.returncode == IMPOSSIBLE:
        # Also on CI: no test can make itself root.
        pytest.skip(output.strip())
    return process.returncode, json.loads(report.with_suffix(".json").read_text())


@pytest.mark.parametrize("backend", sorted(RUNS))
def test_some_faults_break_no_promise(backend: str, tmp_path: Path) -> None:
    report = tmp_path / "chaos.html"
    _, found = chaos(report, backend, RUNS[backend])
    assert found["broken"] == []
    assert found["settled"] == len(RUNS[backend])
    assert found["writes"]["survived"] > 0
    assert found["writes"]["lost_to_two_leaders"] == found["writes"]["outside"] == 0
    assert "<svg" in report.read_text()


def test_a_leader_that_only_says_that_it_demoted_is_found(tmp_path: Path) -> None:
    lying = ("--break", "release-without-demote")
    status, found = chaos(tmp_path / "chaos.html", "local", ["planned stop"], *lying)
    assert status == BROKEN
    assert "I1" in {finding["promise"] for finding in found["broken"]}
