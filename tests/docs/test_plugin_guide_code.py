"""The code of the plugin guide runs: its provider, its hook, its samples."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadertag.errors import HookError
from leadertag.hooks.loading import LoadedHook
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Instance
from tests.docs.guide import (
    EXAMPLE,
    GUIDE,
    HOOKS,
    PAGES,
    Distribution,
    parts,
    pytest_in,
    python_path,
    write_dist_info,
)
from tests.docs.pages import Block, blocks, marked, table, text_of
from tests.docs.samples import a_change, leadertag

# -- the lock in a table -----------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> Distribution:
    """The example, put together."""
    return Distribution(tmp_path)


def test_the_files_are_those_that_the_page_lists(example: Distribution) -> None:
    listed = next(b.text for b in blocks("text", page=EXAMPLE))
    shown = set(re.findall(r"^  ([\w./]+)", listed, re.MULTILINE))
    for path in shown:
        assert (example.folder / path).is_file(), path
    assert set(parts(EXAMPLE)) - shown == {"leadertag.toml"}


def test_it_keeps_the_contract(example: Distribution) -> None:
    done = example.pytest()
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d+ passed in .*", last), f"the page tells of no skips: {last}"


def test_the_skeleton_says_what_to_write_next(tmp_path: Path) -> None:
    done = leadertag("plugins", "new", "mine", "--directory", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    ran = pytest_in(tmp_path / "new", python_path(tmp_path / "new"), "-x")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert marked(GUIDE, "output: skeleton").text.strip() in ran.stdout.splitlines()


_LOCK, _ROWS, _WATCH = (f"src/leadertag_table/{name}.py" for name in ("lock", "rows", "watch"))
MISTAKES = {
    "test_terms_strictly_increase": (_LOCK, "term = next_number(database)", "term = 1"),
    "test_a_stale_lease_changes_nothing": (_LOCK, " or row.idx != index", ""),
    "test_an_older_term_of_the_same_session_changes_nothing": (
        _LOCK, " or term not in (0, row.term)", "",
    ),
    "test_a_late_acquire_changes_nothing": (_LOCK, " or found.index != seen.index", ""),
    "test_discard_frees_without_a_mark": (_ROWS, "if record and not held", "if False and not held"),
    "test_keep_alive_tells_that_the_session_is_gone": (
        _LOCK, "self._demand_session(database)\n            at = ", "at = ",
    ),
    "test_a_foreign_value_is_a_conflict": (_LOCK, "if found.foreign:", "if False:"),
    "test_an_outage_is_told_and_then_it_starts_over": (_WATCH, "                raise\n",
                                                      "                return None\n"),
}  # fmt: skip
"""Of those that the guide tells of: how the example makes it, by the test that it names."""


@pytest.mark.parametrize("test", sorted(MISTAKES))
def test_a_mistake_is_found_by_the_test_that_the_guide_names(
    example: Distribution, test: str
) -> None:
    assert test in {row[2].strip("`") for row in table(GUIDE, "mistakes")}
    good = example.pytest("-k", test)
    assert good.returncode == 0, good.stdout + good.stderr
    example.replace(*MISTAKES[test])
    done = example.pytest("-k", test)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^FAILED .*::{test}\b", done.stdout, re.MULTILINE), done.stdout


def test_it_elects(example: Distribution) -> None:
    """The page's configuration, with a lock of the example's: one run of `check` leads."""
    folder = example.folder
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = str(service.getsockname()[1])
        config = folder / "leadertag.toml"
        text = config.read_text().replace("6379", port)
        config.write_text(text.replace("/var/lib/leadertag", str(folder)))
        env = {"PYTHONPATH": example.python_path, "HOME": str(folder),
               "LEADERTAG_STATE_DIR": str(folder / "state"),
               "LEADERTAG_LOCAL_PATH": str(folder / "local.db")}  # fmt: skip

        def answer(*words: str) -> Any:
            done = leadertag("--config", str(config), *words, "--json", env=env)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout)

        named = [one for one in answer("plugins") if one["name"] == "table"]
        assert [(one["kind"], one["error"]) for one in named] == [("lock", "")]
        answer("check", "--interval", "1s")
        [election] = answer("status")["elections"]
        assert election["phase"] == "leading"
        assert election["leader"]["port"] == int(port)
        assert (folder / "locks.db").exists()


# -- the code that stands alone ----------------------------------------------------------------


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks("python", page=page)], ids=str
)
def test_python_runs(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "sample"})


def test_no_python_is_left_out() -> None:
    """Every block of Python is run, put together with others, or compared with something."""
    for page in PAGES:
        compared = [b for b in blocks(page=page) if b.mark.startswith(("from", "part", "sign"))]
        alone = blocks("python", page=page)
        assert text_of(page).count("\n```python\n") == len(alone) + sum(
            block.language == "python" for block in compared
        )


class _Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline() == b"ping\n":
            self.wfile.write(b"pong\n")


@pytest.fixture
def service() -> Iterator[tuple[str, int]]:
    """A service that answers like the one of the page's hook, on a port of its own."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[0], server.server_address[1]  # type: ignore[misc]
        server.shutdown()
        thread.join()


@pytest.fixture
def flag_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedHook:
    """The page's hook, installed by the page's entry point and loaded as the daemon does."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "leadertag_flag.py").write_text(marked(HOOKS, "hook").text)
    write_dist_info(site, parts(HOOKS)["leadertag-flag/pyproject.toml"])
    monkeypatch.syspath_prepend(site)
    (tmp_path / "run").mkdir()
    return LoadedHook("flag", "here", {"flag": str(tmp_path / "run/leads"), "interval": "10ms"})


def test_the_pages_hook(flag_hook: LoadedHook, tmp_path: Path) -> None:
    flag = tmp_path / "run" / "leads"
    for event in (HookEvent.BEFORE_PROMOTE, HookEvent.PROMOTE):
        flag_hook.call(a_change(event))
    assert flag.read_text() == "7\n"
    flag_hook.call(a_change(HookEvent.VERIFY))
    assert flag_hook.call(a_change(HookEvent.RANK)) == 1
    for _ in range(2):  # it may be asked for what is so already
        flag_hook.call(a_change(HookEvent.DEMOTE))
    assert not flag.exists()
    with pytest.raises(HookError, match="is of term none, not 7"):
        flag_hook.call(a_change(HookEvent.VERIFY))
    flag.parent.rmdir()
    with pytest.raises(HookError, match="there is no folder"):
        flag_hook.call(a_change(HookEvent.BEFORE_PROMOTE))


def test_the_pages_probe(flag_hook: LoadedHook, service: tuple[str, int]) -> None:
    instance = Instance("x", "n1", "x", *service)
    probe = flag_hook.probe("x", instance)
    assert probe is not None
    assert {probe.poll(5.0) for _ in range(3)} == {Health.PASSING}
    probe.close()
    assert probe.poll(5.0) is None
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    gone = flag_hook.probe("x", Instance("x", "n1", "x", "127.0.0.1", port))
    assert gone is not None
    assert gone.poll(5.0) is Health.CRITICAL
    gone.close()
