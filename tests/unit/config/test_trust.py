"""Files that others can write: refused for root, told to others. Real files, owners and modes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leadertag.config import trust
from leadertag.config.load import load
from leadertag.errors import ConfigError

NOBODY = 65534
really_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away: only root can")


def refusal(path: Path | str, what: str = "") -> str:
    """The one line; "" where there is nothing to say."""
    try:
        trust.check(str(path), what)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that root alone can write, in a directory of its own."""
    path = tmp_path / "dir" / "file"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


@really_root
def test_what_root_alone_can_change_is_fine(file: Path) -> None:
    assert refusal(file) == ""
    assert refusal(file.parent) == ""
    assert refusal(file.parent / "nothing") == ""
    assert refusal("/dev/null") == ""


@really_root
@pytest.mark.parametrize(
    ("mode", "group", "fine"),
    [
        (0o600, NOBODY, True), (0o755, NOBODY, True), (0o664, 0, True), (0o664, NOBODY, False),
        (0o620, 54321, False), (0o646, 0, False), (0o777, 0, False),
    ],
)  # fmt: skip
def test_the_file_s_mode(file: Path, mode: int, group: int, fine: bool) -> None:
    os.chown(file, 0, group)
    file.chmod(mode)
    line = refusal(file, "here: token_file")
    if fine:
        assert line == ""
        return
    assert line == (
        f"here: token_file: {file}: others than root can write to it (mode {mode:04o}); run as "
        f"root, leadertag uses only files that root alone can change: chmod go-w {file}"
    )


@really_root
def test_the_file_s_owner(file: Path) -> None:
    os.chown(file, NOBODY, 0)
    line = refusal(file)
    assert line.startswith(f"{file}: it belongs to ")
    assert "(mode 0644), not to root;" in line
    assert line.endswith(f"chown root {file}")


@really_root
@pytest.mark.parametrize("level", [0, 1])
def test_every_directory_above_counts(file: Path, level: int) -> None:
    folder = file.parents[level]
    folder.chmod(0o777)
    assert f"others than root can write to its directory {folder} (mode 0777)" in refusal(file)
    folder.chmod(0o755)
    os.chown(folder, NOBODY, -1)
    assert f"{folder} belongs to " in refusal(file)


@really_root
def test_in_a_sticky_directory_each_owns_his_own(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert refusal(file) == ""
    os.chown(file, NOBODY, -1)
    assert "belongs to" in refusal(file)


@really_root
def test_a_link_is_judged_by_its_target(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("dir/file")
    assert refusal(link) == ""  # its own mode is 0777, as every link's
    file.chmod(0o666)
    assert f"{link}: others than root can write to {file} (mode 0666), which it links to" in (
        refusal(link)
    )
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert f"its directory {file.parent}" in refusal(link)


@really_root
def test_a_link_of_another_s_in_a_sticky_directory(file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    link = shared / "link"
    link.symlink_to(file)
    os.chown(link, NOBODY, -1, follow_symlinks=False)
    assert refusal(link) == ""  # nobody but root can replace it here
    shared.chmod(0o1777)
    assert f"{link}: it belongs to " in refusal(link)
    os.chown(link, 0, -1, follow_symlinks=False)
    assert refusal(link) == ""


@really_root
def test_a_link_over_the_way_up(file: Path, tmp_path: Path) -> None:
    open_dir = tmp_path / "open"
    open_dir.mkdir()
    (tmp_path / "up").symlink_to("open/../dir")
    open_dir.chmod(0o777)
    assert f"its directory {open_dir}" in refusal(tmp_path / "up" / "file")


def test_a_circle_of_links_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(tmp_path / "a") == ""


@really_root
def test_the_file_that_was_opened_is_judged(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("")
    other.chmod(0o666)
    with other.open() as opened, pytest.raises(ConfigError, match="mode 0666"):
        trust.check(str(file), opened=opened.fileno())


# -- an ordinary user --------------------------------------------------------------------------


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root; and nothing was told yet."""
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    monkeypatch.setattr(trust, "_warned", set())


def test_a_user_is_warned_once(file: Path, user: None, caplog: pytest.LogCaptureFixture) -> None:
    file.chmod(0o666)
    for _ in range(2):
        assert refusal(file) == ""
    told = [record for record in caplog.records if "0666" in record.getMessage()]
    assert len(told) == 1
    assert told[0].levelno == logging.WARNING
    assert "others than this user or root can write to it" in told[0].getMessage()


@really_root
def test_a_user_is_not_warned_of_root_s_files(
    file: Path, user: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert refusal(file) == ""
    assert not caplog.records


# -- which files -----------------------------------------------------------------------------------

CONFIG = """\
backend = "local"
[backends.local]
path = "{folder}/db"
[backends.consul]
token_file = "{folder}/token"
ca_file = "{folder}/ca"
[elections.e]
service = "s"
[elections.e.instance]
id = "i"
address = "127.0.0.1"
port = 1
check = {{ command = ["{folder}/probe"] }}
[[elections.e.hooks]]
use = "command"
command = ["{folder}/bin/program", "{folder}/argument"]
[[elections.e.hooks]]
use = "command"
command = ["./relative"]
cwd = "{folder}"
[[elections.e.hooks]]
use = "template"
source = "{folder}/template"
destination = "{folder}/written"
[[elections.e.hooks]]
use = "redis"
url = "redis://127.0.0.1"
password_file = "{folder}/password"
"""
USED = ("token", "ca", "probe", "bin/program", "relative", "template", "password", "agent.token")
UNUSED = ("argument", "written", "db")


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[], None]:
    """Loads a configuration that names all sorts of files; all is well with them."""
    (tmp_path / "bin").mkdir()
    for name in (*USED, *UNUSED):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    config = tmp_path / "leadertag.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    environ = {"LOCAL_TOKEN_FILE": str(tmp_path / "agent.token")}
    return lambda: load(str(config), environ=environ) and None


@really_root
@pytest.mark.parametrize("name", USED)
def test_each_file_that_is_gone_by(loaded: Callable[[], None], tmp_path: Path, name: str) -> None:
    loaded()
    (tmp_path / name).chmod(0o757)
    with pytest.raises(ConfigError, match="mode 0757") as caught:
        loaded()
    assert os.path.normpath(str(tmp_path / name)) in os.path.normpath(str(caught.value))


@really_root
def test_the_directory_of_a_program(loaded: Callable[[], None], tmp_path: Path) -> None:
    (tmp_path / "bin").chmod(0o777)
    with pytest.raises(ConfigError, match=r"hooks\[0\]: command: .*its directory .*/bin"):
        loaded()


@really_root
def test_the_directory_of_the_configuration(loaded: Callable[[], None], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=r"leadertag\.toml: others .* its directory"):
        loaded()


@really_root
@pytest.mark.parametrize("name", UNUSED)
def test_what_is_written_is_anybody_s(
    loaded: Callable[[], None], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).chmod(0o777)
    loaded()


@really_root
def test_a_program_that_is_not_there_yet(loaded: Callable[[], None], tmp_path: Path) -> None:
    (tmp_path / "bin" / "program").unlink()
    loaded()
