"""What the plugin guide says, and what the code says, in the same form."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from leadertag import hookspecs, providers
from tests.docs.pages import ROOT, Block, blocks

GUIDE = "docs/plugins.md"
PROVIDERS = "docs/plugins/providers.md"
EXAMPLE = "docs/plugins/example.md"
HOOKS = "docs/plugins/hooks.md"
PAGES = (EXAMPLE, GUIDE, HOOKS, PROVIDERS)
ZOOKEEPER = ROOT / "examples/leadertag-zookeeper"

# -- signatures ------------------------------------------------------------------------------


class _AsWritten:
    """A type or a default that inspect shows as it stands in the source."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def documented_classes() -> dict[str, type]:
    """The classes whose verbs others write or call: all of providers.py, and the hooks'."""
    found = {
        name: one
        for name, one in vars(providers).items()
        if inspect.isclass(one) and one.__module__ == providers.__name__
    }
    return {**found, "Specs": hookspecs.Specs, "Probe": hookspecs.Probe}


def signatures(cls: type) -> dict[str, str]:
    """The public methods and properties that the class itself defines, as they are written."""
    return {
        name: text
        for name, member in vars(cls).items()
        if not name.startswith("_") and (text := _signature(name, member))
    }


def _signature(name: str, member: object) -> str:
    if isinstance(member, property):
        return f"@property\n{_def(name, member.fget)}"
    if isinstance(member, classmethod):
        return f"@classmethod\n{_def(name, member.__func__)}"
    return _def(name, member) if inspect.isfunction(member) else ""


def _def(name: str, function: object) -> str:
    assert inspect.isfunction(function)
    found = inspect.signature(function)
    parameters = [_as_written(parameter) for parameter in found.parameters.values()]
    returned = _AsWritten(found.return_annotation)
    return f"def {name}{found.replace(parameters=parameters, return_annotation=returned)}"


def _as_written(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, default = parameter.annotation, parameter.default
    if kind is not inspect.Parameter.empty:
        parameter = parameter.replace(annotation=_AsWritten(kind))
    if isinstance(default, str):
        parameter = parameter.replace(default=_AsWritten(json.dumps(default)))
    return parameter


def told_signatures(cls: str) -> dict[str, str]:
    """What the guide's blocks marked ``signatures: CLASS`` say, by the verb's name."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in blocks(page=page):
            if block.mark != f"signatures: {cls}":
                continue
            for text in re.findall(r"(?:^@\w+\n)?^def .+$", block.text, re.MULTILINE):
                name = text.partition("def ")[2].partition("(")[0]
                assert name not in found, f"{block}: {cls}.{name} stands in the guide twice"
                found[name] = text
    return found


def differences(cls: str, told: Mapping[str, str], real: Mapping[str, str]) -> list[str]:
    """One paragraph for each verb that the guide has not, has wrong, or has in vain."""
    found = []
    for name in sorted({*told, *real}):
        if name not in real:
            found.append(f"{cls}.{name} stands in the guide, but there is no such verb any more")
        elif name not in told:
            found.append(
                f"{cls}.{name} is missing: under <!-- signatures: {cls} --> should stand\n"
                f"{real[name]}"
            )
        elif told[name] != real[name]:
            found.append(
                f"{cls}.{name} is out of date: it reads\n{told[name]}\nbut should read\n"
                f"{real[name]}"
            )
    return found


# -- files that the guide shows in parts -------------------------------------------------------


def parts(page: str) -> dict[str, str]:
    """The files that the page's blocks marked ``part: PATH`` make up, by path."""
    found: dict[str, list[str]] = {}
    for block in blocks(page=page):
        if block.mark.startswith("part: "):
            found.setdefault(block.mark.removeprefix("part: "), []).append(block.text)
    return {path: "\n".join(texts) for path, texts in found.items()}


def excerpts() -> list[Block]:
    """The blocks that are taken from a file, marked ``from: PATH``."""
    return [b for page in PAGES for b in blocks(page=page) if b.mark.startswith("from: ")]


class Distribution:
    """The example of the guide, put together in a folder and found by its entry points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path, text in parts(EXAMPLE).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        package = folder / "src/leadertag_table"
        for name in ("__init__.py", "py.typed"):
            (package / name).touch()
        # What pip would write, so that neither a registry nor a build is needed here.
        write_dist_info(folder / "src", (folder / "pyproject.toml").read_text())

    def replace(self, path: str, old: str, new: str) -> None:
        """Change one place of one file; it has to be there once."""
        text = (self.folder / path).read_text()
        assert text.count(old) == 1, f"{path} has {text.count(old)} times {old!r}"
        (self.folder / path).write_text(text.replace(old, new))

    @property
    def python_path(self) -> str:
        """Where it is found."""
        return python_path(self.folder)

    def pytest(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run its tests."""
        return pytest_in(self.folder, self.python_path, "-rfEs", *words)


def pytest_in(folder: Path, python_path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a distribution's tests by its own configuration, not by this project's."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
            "-c", "pyproject.toml", "tests", *words]  # fmt: skip
    unwanted = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    env = {k: v for k, v in os.environ.items() if k not in unwanted}
    return subprocess.run(
        argv, cwd=folder, env={**env, "PYTHONPATH": python_path},
        capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip


def python_path(folder: Path) -> str:
    """A distribution's code, and that of this checkout, wherever leadertag is installed from."""
    return os.pathsep.join(str(path) for path in (folder / "src", ROOT, ROOT / "plugins"))


def write_dist_info(site: Path, pyproject: str) -> None:
    """Make a distribution's entry points known in the folder ``site``."""
    project = tomllib.loads(pyproject)["project"]
    name, groups = project.get("name", "leadertag-flag"), project["entry-points"]
    info = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in entries.items())
        for group, entries in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


# -- imports -------------------------------------------------------------------------------------


def imported(source: str) -> set[str]:
    """What the source takes from leadertag, as ``module`` and ``module:name``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}:{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if re.split(r"[.:]", name)[0] == "leadertag"}
