"""What can be told of the pages without running anything of theirs."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from leadertag.cli import VERBS
from leadertag.cli.parsing import Parser, add_global_options
from leadertag.cli.predecessor import FLAGS
from leadertag.config.environment import ELSEWHERE, EVERY, TOP
from leadertag.election.diagram import mermaid
from leadertag.hooks.command import variables
from leadertag.model import Characteristic
from leadertag.testing.simulator.__main__ import parser as simulator_parser
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, marked, prose, text_of
from tests.docs.samples import a_change

_OTHERS_OPTIONS = {o for action in simulator_parser()._actions for o in action.option_strings}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: there is no {target}"
        if anchor:
            other = str(file.resolve().relative_to(ROOT))
            assert anchor in anchors(other), f"{page}: {other} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = set(LINK.findall(prose("README.md")))
    assert {p for p in PAGES if p.startswith("docs/")} <= linked


@pytest.mark.parametrize("block", [b for b in blocks() if b.mark.startswith("file: ")], ids=str)
def test_what_is_shown_of_a_file_is_the_file(block: Block) -> None:
    """If not: `python -m tests.docs.refresh`."""
    path = block.mark.removeprefix("file: ")
    assert block.text == (ROOT / path).read_text()


def test_every_example_is_spoken_of() -> None:
    everything = "".join(text_of(page) for page in PAGES)
    for example in (ROOT / "examples").iterdir():
        assert f"examples/{example.name}" in everything, f"no page has {example.name}"


def test_the_diagram_is_the_table() -> None:
    """If not: `python -m tests.docs.refresh`."""
    text = text_of("docs/concepts.md")
    between = text.partition("<!-- diagram -->\n")[2].partition("<!-- /diagram -->")[0]
    assert between == f"```mermaid\n{mermaid()}\n```\n"


def test_every_characteristic_is_explained() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` +\|", prose("docs/concepts.md"), re.MULTILINE)
    assert {str(one) for one in Characteristic} <= set(rows)


# -- the command line ---------------------------------------------------------------------


@cache
def options() -> frozenset[str]:
    """Every option of every verb."""
    found: set[str] = set()
    for verb in VERBS:
        parser = Parser(verb)
        importlib.import_module(f"leadertag.cli.{verb}").add_arguments(parser)
        add_global_options(parser)
        found.update(o for action in parser._actions for o in action.option_strings)
    return frozenset(found | {"--version"})


def _spoken_of(page: str) -> str:
    """Code spans, and the lines of blocks that are about leadertag."""
    spans = " ".join(re.findall(r"`([^`\n]+)`", prose(page)))
    lines = (line for b in blocks(page=page) for line in b.text.splitlines())
    return spans + "\n" + "\n".join(line for line in lines if "leadertag" in line or '"--' in line)


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_spoken_of_exists(page: str) -> None:
    text = re.sub(r"--?consul-[a-z-]+", "", _spoken_of(page))
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - _OTHERS_OPTIONS
    assert told <= options(), f"{page} tells of {', '.join(sorted(told - options()))}"


def test_every_option_is_documented() -> None:
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", prose("docs/configuration.md")))
    long = {option for option in options() if option.startswith("--")}
    assert long - told <= {"--help", "--version", "--plain", "--verbose"}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_of_the_predecessor_that_is_spoken_of_exists(page: str) -> None:
    told = set(re.findall(r"(?<![\w-])--?(consul-[a-z-]+)", text_of(page)))
    assert told <= set(FLAGS)
    if page == "docs/migration.md":
        assert told == set(FLAGS)


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_that_is_spoken_of_exists(page: str) -> None:
    spans = re.findall(r"`leadertag [^`]+`", prose(page))
    lines = [line for b in blocks("sh", "console", page=page) for line in b.text.splitlines()]
    words = [re.sub(r"--config \S+ |--json ", "", text) for text in spans + lines]
    told = {
        m[1] for word in words if (m := re.match(r"`?(?:\$ )?(?:\S*/)?leadertag ([a-z]+)", word))
    }
    unknown = told - set(VERBS)
    assert not unknown


def test_every_verb_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z]+)` +\|", prose("docs/configuration.md"), re.MULTILINE)
    assert set(VERBS) <= set(rows)


# -- the environment ----------------------------------------------------------------------


def known_variables() -> frozenset[str]:
    """Every LEADERTAG_ variable but those of the form LEADERTAG_X__Y__Z."""
    plain = {f"LEADERTAG_{name}" for name in (*TOP, *(key.upper() for key in EVERY), *ELSEWHERE)}
    return frozenset(plain | set(variables(a_change())))


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_is_spoken_of_exists(page: str) -> None:
    told = set(re.findall(r"\bLEADERTAG_[A-Z_]+[A-Z]", text_of(page)))
    plain = {name for name in told if "__" not in name}
    assert plain <= known_variables()


def test_every_variable_is_documented() -> None:
    told = text_of("docs/configuration.md") + text_of("docs/hooks.md")
    missing = [name for name in known_variables() if f"`{name}`" not in told]
    assert not missing


def test_consuls_variables() -> None:
    code = (ROOT / "plugins/leadertag_consul/settings.py").read_text()
    read = set(re.findall(r'"(CONSUL_[A-Z_]+)"', code))
    for page in ("docs/consul.md", "docs/configuration.md"):
        assert set(re.findall(r"\bCONSUL_[A-Z_]+[A-Z]", text_of(page))) == read


# -- what the README tells people to run ------------------------------------------------------


def test_ci_runs_the_readmes_command() -> None:
    if shutil.which("awk") is None:
        pytest.skip("awk is not installed")
    program = re.search(r"awk '([^']+)' README.md", (ROOT / ".ci/run").read_text())
    assert program is not None
    argv = ["awk", program[1], str(ROOT / "README.md")]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert found == marked("README.md", "test").text
    assert found.count("\n") == 1


def test_the_readmes_commands_stand_on_the_files_of_the_project() -> None:
    demo, test = marked("README.md", "demo").text, marked("README.md", "test").text
    assert demo.endswith("&& .venv/bin/leadertag demo\n")
    assert test.endswith("&& .venv/bin/tox run\n")
    assert (ROOT / "tox.ini").exists()
    extra = re.search(r"'\.\[(\w+)\]'", demo)
    assert extra is not None
    assert f"\n{extra[1]} =\n" in (ROOT / "setup.cfg").read_text()


def test_every_extra_that_is_installed_exists() -> None:
    extras = set(re.findall(r"^([a-z-]+) =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE))
    for page in PAGES:
        for names in re.findall(r"pip install '(?:leadertag|\.)\[([^]]+)\]'", text_of(page)):
            assert set(names.split(",")) <= extras


# -- blocks of other languages ------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_shell_parses(block: Block) -> None:
    argv = ["bash", "-n"]
    done = subprocess.run(argv, input=block.text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_block_has_a_language_that_is_looked_at() -> None:
    looked_at = {"toml", "json", "hcl", "python", "console", "sh", "ini", "jinja", "mermaid"}
    not_run = {"text", "puppet"}
    for block in blocks():
        assert block.language in looked_at | not_run, f"{block}: {block.language!r}"


def test_nothing_of_this_machine_stands_there() -> None:
    for page in PAGES:
        assert str(Path.home()) + "/" not in text_of(page)
        assert str(ROOT) not in text_of(page)
