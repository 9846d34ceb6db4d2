"""What the pages show of a session is what the command prints, but for times and ids."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.toml import seconds as written
from tests.conftest import need
from tests.docs.pages import ROOT, Block, blocks, marked, text_of
from tests.docs.samples import leadertag
from tests.tools.servers import require

_VARYING = (
    (re.compile(r"/tmp/[\w/.-]+?(?=/|\s|$)(/[\w.-]+)*"), "PATH"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\d+\.\d\d+s\b"), "SECONDS"),
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "PORT"),
    (re.compile(r"\bnode\d\b"), "NODE"),
    # A candidate that gives way to a better one uses a term up.
    (re.compile(r"\(term \d+\)"), "(term N)"),
)


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run.

    The rows of a table are sorted: which node leads is the election's business.
    """
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    lines = [" ".join(line.split()) if line.strip() else "" for line in text.splitlines()]
    return _rows_sorted(lines)


def _rows_sorted(lines: list[str]) -> list[str]:
    found: list[str] = []
    rows: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("NODE 127."):
            rows.append(line)
            continue
        found += [*sorted(rows), line]
        rows = []
    return found[:-1]


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_sessions(block: Block, tmp_path: Path) -> None:
    # A copy: root refuses the files of a checkout that belongs to somebody else.
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for part in block.text.split("$ ")[1:]:
        command, _, shown = part.partition("\n")
        program, *words = shlex.split(command)
        assert program == "leadertag"
        env = {"HOME": str(tmp_path)}
        if "Redis" in shown:
            need("redis-server")
            pytest.importorskip("redis")
            env["PATH"] = f"{require('redis-server').parent}:{os.environ['PATH']}"
        done = leadertag(*words, cwd=tmp_path, env=env)
        if block.mark == "excerpt":
            missing = [line for line in normal(shown) if line not in normal(done.stdout)]
            assert not missing, done.stdout
        else:
            assert normal(done.stdout) == normal(shown), done.stderr


def test_a_changed_output_is_noticed() -> None:
    shown = next(b.text for b in blocks("console", page="README.md"))
    assert normal(shown) == normal(shown.replace("54503", "1").replace("1.61s", "0.02s"))
    assert normal(shown) != normal(shown.replace("slave", "master"))
    assert normal(shown) != normal(shown.replace("comes", "came").replace("Killing", "Stopping"))


# -- JSON ------------------------------------------------------------------------------------

CONFIG = """
backend = "local"
state_dir = "{folder}/state"
[backends.local]
path = "{folder}/leadertag.db"
node = "n1"
[elections.demo]
service = "demo"
query = "demo-leader"
[elections.demo.instance]
id = "n1"
address = "127.0.0.1"
port = 7001
"""


def test_json(tmp_path: Path) -> None:
    config = tmp_path / "leadertag.toml"
    config.write_text(CONFIG.format(folder=tmp_path))

    def answer(*words: str) -> Any:
        done = leadertag("--config", str(config), *words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def shown(name: str) -> Any:
        return json.loads(marked("docs/configuration.md", f"json: {name}").text)

    assert answer("check") == shown("check")
    status = answer("status")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["elections"][0]["since"])
    status["elections"][0]["since"] = shown("status")["elections"][0]["since"]
    assert status == shown("status")
    assert answer("query", "demo-leader") == shown("query")


def test_the_numbers_in_the_prose() -> None:
    """The contact limits, the shortest lease and the lives that the pages name."""
    from leadertag.config.settings import ElectionSettings
    from leadertag.election import policy
    from leadertag_consul.gates import GATE_LIFE
    from leadertag_consul.heart import TTL
    from leadertag_local.settings import LocalSettings

    concepts, readme, consul = map(text_of, ("docs/concepts.md", "README.md", "docs/consul.md"))
    lease = ElectionSettings("", "", "").lease
    limit = policy.contact_limit(lease, 1.0, 0.0)
    assert f"default lease of {lease:g} s" in concepts
    assert f"contact limit is {limit:.1f} s" in concepts
    restart = limit - lease / policy.CONFIRMS_PER_LEASE
    assert f"{restart:.1f} s by default" in readme
    assert f"{limit:.1f} s after the last confirmation" in " ".join(consul.split())
    room = policy.RATE * lease - policy.SLACK - 2 * lease / policy.CONFIRMS_PER_LEASE
    assert f"together may take {room:.3g} s" in concepts
    share = policy.RATE - 2 / policy.CONFIRMS_PER_LEASE
    assert f"(demote + fence + {policy.SLACK:g} s) / {share:.2g}" in concepts
    assert f"confirms its lock {policy.CONFIRMS_PER_LEASE} times" in concepts
    assert (
        f"({GATE_LIFE:g} s on Consul, {LocalSettings('', '').gate_life:g} s on `local`)" in concepts
    )
    assert f"one TTL check ({TTL:g} s)" in consul
    restart = limit - lease / policy.CONFIRMS_PER_LEASE
    assert f"time for a restart: {written(round(restart, 3))}" in concepts
