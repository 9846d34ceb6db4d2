"""The skeleton of a plugin: it fits the contracts, it is clean, and it tells what comes next."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from leadertag import scaffold
from leadertag.errors import ConfigError
from leadertag.hookspecs import Specs
from leadertag.providers import Provider
from leadertag.scaffold import KINDS, LONGEST_NAME, skeleton, write

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ["a", "abcdefghijklmnopqrstuvwx", "averyverylong-withmanyxx", "my-store", "plain"]
"""The shortest and the longest ones; every word of a skeleton has to fit its lines."""


def made(folder: Path, name: str = "my-store", *, hook: bool = True) -> Path:
    """A skeleton on disk, in a folder of the name's own."""
    target = folder / f"leadertag-{name}"
    write(skeleton(name, hook=hook), str(target))
    return target


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``python -m WORDS`` in the skeleton, with nothing of this run's own pytest about it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env={**env, **environ},
        capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


# -- what is written -------------------------------------------------------------------------


def methods(source: str) -> dict[str, ast.FunctionDef]:
    """The methods of the one class of a module."""
    (cls,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}


def of_contract(function: Any) -> ast.FunctionDef:
    """A method as it stands in the contract."""
    source = inspect.getsource(getattr(function, "fget", None) or function)
    (node,) = ast.parse(inspect.cleandoc(source)).body
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_verb_is_there_with_the_contract_s_signature(kind: str) -> None:
    base: type[Provider] = KINDS[kind]
    written = methods(skeleton("my-store")[f"src/leadertag_my_store/{kind}.py"])
    assert set(written) == set(base.__abstractmethods__) | {"__init__"}
    for name in sorted(base.__abstractmethods__ - {"create"}):
        wanted, found = of_contract(inspect.getattr_static(base, name)), written[name]
        assert ast.unparse(found.args) == ast.unparse(wanted.args)
        assert ast.unparse(found.returns or found) == ast.unparse(wanted.returns or wanted)
        assert ast.get_docstring(found) == ast.get_docstring(wanted)
        assert [ast.unparse(d) for d in found.decorator_list] == [
            d for d in map(ast.unparse, wanted.decorator_list) if d != "abstractmethod"
        ]
        told = ast.unparse(found.body[-1])
        assert told.startswith("raise NotImplementedError(")
        assert f"MyStore{kind.capitalize()}.{name}: " in told


def test_the_hook_has_the_specs_signatures() -> None:
    written = methods(skeleton("my-store", hook=True)["src/leadertag_my_store/hook.py"])
    events = {f"leadertag_{event}" for event in ("promote", "demote", "follow")}
    assert set(written) == {"__init__"} | events
    for name in sorted(events):
        wanted = of_contract(getattr(Specs, name))
        assert ast.unparse(written[name].args) == ast.unparse(wanted.args)
        assert ast.get_docstring(written[name]) == ast.get_docstring(wanted)


def test_a_hook_is_written_only_where_it_is_wanted() -> None:
    without, with_it = skeleton("my-store"), skeleton("my-store", hook=True)
    assert set(with_it) - set(without) == {"src/leadertag_my_store/hook.py", "tests/test_hook.py"}
    for group, wanted in (("lock", True), ("registry", True), ("query", True), ("hooks", False)):
        entry = f'entry-points."leadertag.{group}"]\nmy-store = "leadertag_my_store:MyStore'
        assert (entry in without["pyproject.toml"]) == wanted
        assert entry in with_it["pyproject.toml"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_clean(name: str, tmp_path: Path) -> None:
    for tool in ("mypy", "ruff"):
        if find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed here")
    folder = made(tmp_path, name)
    for words in (("ruff", "check", "--no-cache", "."), ("ruff", "format", "--check", ".")):
        done = run(folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    path = f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'plugins'}"
    done = run(folder, "mypy", "--cache-dir", os.devnull, MYPYPATH=path)
    assert (done.returncode, done.stdout[:7]) == (0, "Success"), done.stdout + done.stderr


# -- its own tests -----------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A skeleton with the entry points of its pyproject.toml, as an installation makes them."""
    folder = made(tmp_path)
    info = folder / "src" / "leadertag_my_store-0.1.0.dist-info"
    info.mkdir()
    name = "Metadata-Version: 2.1\nName: leadertag-my-store\nVersion: 0.1.0\n"
    (info / "METADATA").write_text(name)
    toml = (folder / "pyproject.toml").read_text()
    found = re.findall(r'entry-points\."([a-z.]+)"\]\nmy-store = "(.*)"', toml)
    assert len(found) == 4
    points = "".join(f"[{group}]\nmy-store = {value}\n" for group, value in found)
    (info / "entry_points.txt").write_text(points)
    return folder


def pytest_of(folder: Path, *words: str) -> str:
    """What pytest says; nothing of what this run has is loaded but what the skeleton asks for."""
    done = run(
        folder, "pytest", "-p", "no:cacheprovider", *words,
        PYTHONPATH=str(folder / "src"), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def next_verb(told: str) -> str:
    """The verb that is named last."""
    (verb,) = re.findall(r"^write next: (\S+) \(\d+ tests wait for it\): \S", told, re.MULTILINE)
    return str(verb)


def test_its_tests_run_at_once_and_every_failure_names_a_verb(installed: Path) -> None:
    told = pytest_of(installed, "-q", "--tb=line")
    failures = re.findall(r"^E?\s*\S*: (NotImplementedError.*)$", told, re.MULTILINE)
    count = re.search(r"(\d+) failed, (\d+) passed", told)
    assert count is not None, told
    assert int(count[1]) > 100
    assert len(failures) == int(count[1]), "something failed for another reason"
    named = {line.split(": ")[1] for line in failures}
    assert {"MyStoreLock.open", "MyStoreRegistry.register", "MyStoreQuery.ensure"} <= named
    assert next_verb(told) == "MyStoreLock.open"


def test_the_next_verb_follows_from_what_is_written(installed: Path) -> None:
    """Written one by one, each as a first attempt that suffices for the tests before the next."""
    path = installed / "src" / "leadertag_my_store" / "lock.py"
    order = [next_verb(pytest_of(installed, "-x"))]
    for verb, body in (
        ("open", "self._opened = session or os.urandom(8).hex()\n        return self._opened"),
        ("keep_alive", "return None"),
    ):
        source = path.read_text()
        start = source.index(f"    def {verb}(")
        raised = re.compile(r"raise NotImplementedError\(.*?\)\n(?=\n)", re.DOTALL)
        source = source[:start] + raised.sub(f"{body}\n", source[start:], count=1)
        path.write_text(source.replace("from typing", "import os\nfrom typing", 1))
        order.append(next_verb(pytest_of(installed, "-q", "--deselect", EXPIRING)))
    assert order == [f"MyStoreLock.{verb}" for verb in ("open", "keep_alive", "end")]


EXPIRING = "tests/test_contract.py::TestLock::test_a_session_that_is_gone_is_replaced"


# -- where it is written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "Store", "1st", "my_store", "my--store", "-store", "store-", "a b", "größe", "../up",
     "s/t", "x" * (LONGEST_NAME + 1)],
)  # fmt: skip
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a plugin's name: write lower-case") as caught:
        skeleton(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["file", "empty", "full"])
def test_what_exists_is_left_alone(what: str, tmp_path: Path) -> None:
    target = tmp_path / "there"
    if what == "file":
        target.write_text("mine")
    else:
        target.mkdir()
    if what == "full":
        (target / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="exists already: name another with --directory"):
        write(skeleton("my-store"), str(target))
    assert sorted(tmp_path.rglob("*")) == before


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in ("missing", "file"):
        with pytest.raises(ConfigError, match="cannot be made: N"):
            write(skeleton("my-store"), str(tmp_path / parent / "new"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class Interrupted(BaseException):
    """As a signal in the middle of writing."""


@pytest.fixture(params=["full", "interrupted"])
def trouble(request: pytest.FixtureRequest) -> BaseException:
    full = OSError(errno.ENOSPC, "No space left on device")
    return full if request.param == "full" else Interrupted()


def test_nothing_half_written_is_left(
    trouble: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fails_late(path: str, *rest: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise trouble
        os.mkdir(path) if not os.path.isdir(path) else None

    monkeypatch.setattr(scaffold.os, "makedirs", fails_late)
    expected = ConfigError if isinstance(trouble, OSError) else Interrupted
    with pytest.raises(expected):
        write({"a": "x", "b": "x", "c": "x", "d": "x", "e": "x"}, str(tmp_path / "new"))
    assert len(calls) == 4
    assert list(tmp_path.iterdir()) == []
