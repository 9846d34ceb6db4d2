"""A plugin stands on what leadertag promises to plugins, and on nothing else of it."""

from __future__ import annotations

import ast
from pathlib import Path

import leadertag_zookeeper

PUBLIC = {
    "leadertag", "leadertag.config.table", "leadertag.config.values", "leadertag.errors",
    "leadertag.kit.queries", "leadertag.kit.registration",
    "leadertag.model", "leadertag.plan", "leadertag.providers", "leadertag.testing.contracts",
    "leadertag.testing.relay",
}  # fmt: skip


def imported(folder: Path) -> set[str]:
    """Every module of leadertag's that a source file names, and every name taken out of one."""
    found = set()
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
                found |= {f"{node.module}.{one.name}" for one in node.names if one.name[0] == "_"}
            elif isinstance(node, ast.Import):
                found |= {one.name for one in node.names}
    return {name for name in found if name.split(".")[0] == "leadertag"}


def test_the_plugin_imports_nothing_private() -> None:
    (folder,) = leadertag_zookeeper.__path__
    used = imported(Path(folder))
    assert used
    assert used <= PUBLIC


def test_nor_do_its_tests() -> None:
    assert imported(Path(__file__).parent) <= PUBLIC
