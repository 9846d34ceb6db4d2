"""The frame of the distribution: what is in the tree is what gets installed."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

import leadertag

ROOT = Path(leadertag.__file__).parent.parent


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def in_tree() -> set[str]:
    tops = [ROOT / "leadertag", *(path for path in (ROOT / "plugins").iterdir() if path.is_dir())]
    return {
        ".".join([top.name, *init.parent.relative_to(top).parts])
        for top in tops
        for init in top.rglob("__init__.py")
    }


def test_every_package_of_the_tree_is_installed() -> None:
    listed = setup()["options"]["packages"].split()
    assert set(listed) == in_tree()


def test_every_top_level_package_is_mapped_and_typed() -> None:
    mapped = dict(
        line.split(" = ") for line in setup()["options"]["package_dir"].strip().splitlines()
    )
    assert set(mapped) == {name.partition(".")[0] for name in in_tree()}
    for folder in mapped.values():
        assert (ROOT / folder / "py.typed").exists(), folder


def test_mypy_checks_every_top_level_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(config["tool"]["mypy"]["packages"]) == {n.partition(".")[0] for n in in_tree()}


def test_the_core_imports_no_backend() -> None:
    naming = re.compile(r"^\s*(?:from|import) (leadertag_\w+|consul|etcd3|redis|requests)\b")
    allowed = {"hooks/redis.py", "demo/nodes.py"}
    for path in (ROOT / "leadertag").rglob("*.py"):
        if str(path.relative_to(ROOT / "leadertag")) in allowed:
            continue  # the redis hook and the demo's Redis servers, imported when used
        lines = [line for line in path.read_text().splitlines() if naming.match(line)]
        assert not lines, f"{path}: {lines}"


def test_the_election_does_no_io() -> None:
    naming = re.compile(r"^\s*(?:from|import) (time|threading|socket|os|queue|logging|random)\b")
    for path in (ROOT / "leadertag" / "election").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if naming.match(line)]
        assert not lines, f"{path}: {lines}"


def test_no_file_has_grown_into_a_god_class() -> None:
    sources = [*(ROOT / "leadertag").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    long = {str(p): n for p in sources if (n := len(p.read_text().splitlines())) > 400}
    assert not long
