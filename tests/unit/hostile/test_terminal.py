"""Names and tags come from whoever may write to the backend: a terminal never acts on them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.cli.common import address, ascii_only, table
from leadertag.model import Health, Instance, Phase, QueryDefinition
from leadertag.plain import OneLineFormatter, one_line
from tests.unit.cli.conftest import Cli
from tests.unit.hostile.anything import NASTY, hostile, texts
from tests.unit.local.tools import Node

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\n\u202e\u2028\0"
CONFIG = """\
backend = "local"
[backends.local]
path = "{path}"
node = "n1"
[elections.redis]
service = "redis"
query = "q"
[elections.redis.instance]
id = "{id}"
address = "127.0.0.1"
port = 1
"""


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@given(texts)
@hostile(200)
def test_any_text_becomes_one_plain_line(text: str) -> None:
    for line in (one_line(text), ascii_only(text), *table([(text, "x")])):
        assert harmless(line)
        assert "\n" not in line
    assert ascii_only(text).isascii()
    assert harmless(one_line(address(text, 1)))


@pytest.fixture
def spoilt(tmp_path: Path, config: Callable[[str], str]) -> tuple[Node, str]:
    """A member whose every text is hostile leads; its configuration."""
    path = tmp_path / "leadertag.db"  # as the variable of the fixture says
    node = Node(path)
    node.lock.open("me", ttl=60.0)
    mine = Instance(
        "r1", "n1", "redis", f"127.0.0.1{ESCAPES}", 6379, (f"sensu{ESCAPES}", "master"),
        meta={ESCAPES: ESCAPES},
    )  # fmt: skip
    node.registry.register(mine)
    node.registry.report("r1", Health.PASSING, ESCAPES)
    node.query.ensure(QueryDefinition("q", "redis", ("master",)))
    lease = node.take("redis/q")
    node.lock.update(
        lease,
        replace(
            lease.record, phase=Phase.LEADING, member=f"n1/r1{ESCAPES}", node=ESCAPES,
            address=ESCAPES, since=ESCAPES, reason=ESCAPES,
        ),
    )  # fmt: skip
    return node, config(CONFIG.format(path=path, id="r1"))


@pytest.mark.parametrize("verb", [["status"], ["query", "q"], ["history"], ["explain"]], ids=str)
@pytest.mark.parametrize("form", [[], ["--json"], ["-v"]], ids=str)
def test_no_verb_prints_what_a_terminal_acts_on(
    cli: Cli, spoilt: tuple[Node, str], verb: list[str], form: list[str]
) -> None:
    result = cli("--config", spoilt[1], *form, *verb)
    assert harmless(result.out), result
    assert harmless(result.err), result
    if form == ["--json"]:
        json.loads(result.out)


def test_each_member_has_one_row(cli: Cli, spoilt: tuple[Node, str]) -> None:
    out = cli("--config", spoilt[1], "status").out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["ROLE", "leader"], out


@given(texts | st.just(ESCAPES))
@hostile(100)
def test_no_name_begins_a_line_of_the_log(name: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLineFormatter("%(levelname)s %(message)s"))
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "led by %s", (name,), None)
    handler.emit(record)
    assert stream.getvalue().count("\n") == 1
    assert harmless(stream.getvalue())


def test_the_commands_log_is_plain(
    cli: Cli, config: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli("--config", config(CONFIG.format(path="/x", id="r1")), "plugins")  # sets logging up
    from leadertag.cli.common import set_up_logging
    from leadertag.cli.frame import new_namespace

    set_up_logging(new_namespace())
    for name in NASTY:
        logging.getLogger("leadertag.x").warning("led by %s\nleadertag: ERROR forged", name)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == len(NASTY)
    assert harmless(err)
