"""The plugin guide: its signatures are the code's, its excerpts the files', its code runs."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from dataclasses import fields

import pytest

import leadertag.testing.contracts as shipped
from leadertag import errors, plugins, providers
from leadertag.config.hooks import TIMEOUTS
from leadertag.config.toml import seconds as written
from leadertag.hookspecs import HookEvent
from leadertag.model import Characteristic
from leadertag.scaffold import skeleton
from tests.docs.guide import (
    EXAMPLE,
    GUIDE,
    HOOKS,
    PAGES,
    PROVIDERS,
    ZOOKEEPER,
    differences,
    documented_classes,
    excerpts,
    imported,
    parts,
    signatures,
    told_signatures,
)
from tests.docs.pages import ROOT, Block, blocks, prose, table

VERBS = {name: signatures(cls) for name, cls in sorted(documented_classes().items())}
VERBS = {name: verbs for name, verbs in VERBS.items() if verbs}


# -- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", sorted(VERBS))
def test_the_exact_signatures_stand_there(cls: str) -> None:
    wrong = differences(cls, told_signatures(cls), VERBS[cls])
    assert not wrong, "\n\n".join(wrong)


def test_no_other_class_stands_there() -> None:
    marks = {block.mark for page in PAGES for block in blocks(page=page)}
    told = {mark.removeprefix("signatures: ") for mark in marks if mark.startswith("signatures: ")}
    assert told == set(VERBS)


def test_every_abstract_verb_is_among_them() -> None:
    """So that nothing of what an author has to write can be missed by the way it is found."""
    for name, cls in sorted(documented_classes().items()):
        inherited = {verb for base in cls.__mro__ for verb in VERBS.get(base.__name__, {})}
        assert set(getattr(cls, "__abstractmethods__", ())) <= inherited, name


def test_a_signature_that_is_out_of_date_is_told_with_the_right_one() -> None:
    real = VERBS["QueryProvider"]
    told = {**real, "list": "def list(self) -> tuple[str, ...]", "poke": "def poke(self)"}
    del told["remove"]
    message = "\n".join(differences("QueryProvider", told, real))
    assert "QueryProvider.list is out of date" in message
    assert real["list"] in message
    assert "QueryProvider.remove is missing: under <!-- signatures: QueryProvider -->" in message
    assert real["remove"] in message
    assert "QueryProvider.poke stands in the guide, but there is no such verb" in message
    assert not differences("QueryProvider", real, real)


def test_every_verb_is_explained() -> None:
    told = {page: set(re.findall(r"\*\*`(\w+)`\*\*", prose(page))) for page in PAGES}
    for cls, verbs in VERBS.items():
        page = HOOKS if cls in ("Probe", "Specs") else PROVIDERS
        known = told[page] if cls != "Specs" else {f"leadertag_{event}" for event in HookEvent}
        assert set(verbs) <= known, cls


# -- tables ------------------------------------------------------------------------------------


def first_column(page: str, mark: str) -> list[str]:
    """Every code span in the first cells of a table, without arguments."""
    return [
        name
        for row in table(page, mark)
        for name in re.findall(r"`([\w.]+)(?:\([^)]*\))?`", row[0])
    ]


def test_the_groups_are_those_that_are_looked_in() -> None:
    groups = {f"leadertag.{group}" for group in (*plugins.KINDS, "hooks")}
    assert set(first_column(GUIDE, "groups")) == groups
    for row in table(GUIDE, "groups"):
        for path in re.findall(r"`(leadertag\.providers\.\w+)`", row[2]):
            assert hasattr(providers, path.rpartition(".")[2]), path


def test_every_characteristic_is_explained() -> None:
    assert first_column(GUIDE, "characteristics") == [one.name for one in Characteristic]


def test_every_hook_of_a_harness_is_explained() -> None:
    mine = {name for name in vars(shipped.Harness) if not name.startswith("_")}
    assert set(first_column(GUIDE, "harness")) == mine


def test_every_contract_is_explained() -> None:
    contracts = {name for name in shipped.__all__ if name.endswith("Contract")}
    told = set(first_column(GUIDE, "contracts"))
    assert contracts - told == {"NotesContract"}  # a part of the lock's
    assert told <= contracts
    assert issubclass(shipped.LockContract, shipped.NotesContract)


def test_the_mistakes_are_found_by_tests_that_there_are() -> None:
    contracts = [vars(shipped)[name] for name in shipped.__all__ if name.endswith("Contract")]
    there = {name for cls in contracts for name in dir(cls) if name.startswith("test_")}
    told = [row[2].strip("`") for row in table(GUIDE, "mistakes")]
    assert len(told) == len(set(told))
    assert set(told) <= there, sorted(set(told) - there)


def test_the_errors_are_those_that_there_are() -> None:
    every = {
        name for name, one in vars(errors).items()
        if inspect.isclass(one) and issubclass(one, errors.BackendError)
    }  # fmt: skip
    told = set(first_column(PROVIDERS, "errors"))
    assert told == {*every, "ConfigError"} - {"BackendError"}


def test_the_context_is_explained() -> None:
    mine = {one.name for one in fields(providers.BackendContext) if one.name[0] != "_"}
    assert set(first_column(PROVIDERS, "context")) == mine


def test_every_event_and_its_limit() -> None:
    rows = {row[0].strip("`"): row[4].strip("`") for row in table(HOOKS, "events")}
    assert rows == {str(event): written(TIMEOUTS[event]) for event in HookEvent}


# -- what may be imported -------------------------------------------------------------------------


def public() -> dict[str, set[str]]:
    """The modules that plugins may import, and the names that the guide tells of."""
    return {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1]))
        for row in table(GUIDE, "public modules")
    }


@pytest.mark.parametrize("module", sorted(public()))
def test_what_may_be_imported_is_there(module: str) -> None:
    found = importlib.import_module(module)
    missing = sorted(name for name in public()[module] if not hasattr(found, name))
    assert not missing, f"{module} has no {', '.join(missing)}"


def outsiders() -> dict[str, str]:
    """Everything in Python that stands for a plugin of somebody else's, by where it is."""
    files = [*ZOOKEEPER.rglob("src/**/*.py"), *ZOOKEEPER.rglob("tests/**/*.py")]
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(files)}
    found.update({path: text for path, text in parts(EXAMPLE).items() if path.endswith(".py")})
    written = skeleton("mine", hook=True)
    found.update({f"skeleton: {p}": text for p, text in written.items() if p.endswith(".py")})
    alone = (block for page in PAGES for block in blocks("python", page=page))
    return {**found, **{str(block): block.text for block in alone}}


@pytest.mark.parametrize("where", sorted(outsiders()))
def test_outsiders_import_nothing_else(where: str) -> None:
    allowed, used = public(), imported(outsiders()[where])
    modules = {name for name in used if ":" not in name}
    assert modules <= set(allowed), f"{where}: the guide does not list {modules - set(allowed)}"
    private = {name for name in used if name.partition(":")[2].startswith("_")}
    assert not private, where


def test_outsiders_do_import_something() -> None:
    """What is listed is there because somebody needs it, but for what pytest loads by itself."""
    used = {name for text in outsiders().values() for name in imported(text)}
    assert used >= {module for module, names in public().items() if names}


# -- excerpts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", excerpts(), ids=str)
def test_excerpts_stand_in_their_files(block: Block) -> None:
    path = block.mark.removeprefix("from: ")
    source = (ROOT / path).read_text()
    shown, lines = block.text.splitlines(), source.splitlines()
    there = [n for n, line in enumerate(lines) if line == shown[0]]
    if any(lines[n : n + len(shown)] == shown for n in there):
        return
    closest = lines[there[0] : there[0] + len(shown)] if there else []
    told = "\n".join(difflib.unified_diff(shown, closest, str(block), path, lineterm=""))
    pytest.fail(f"{block} is not what stands in {path}:\n{told or 'nothing begins like it'}")
