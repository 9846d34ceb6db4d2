"""Where the file is looked for, and what is refused of it before a key is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leadertag.config import file as config_file
from leadertag.errors import ConfigError


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, or so it seems."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def make(path: Path, text: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_the_option_wins_over_the_variable() -> None:
    assert config_file.find("a.toml", {"LEADERTAG_CONFIG": "b.toml"}) == "a.toml"


def test_the_variable_wins_over_the_places(system_file: Path, root: None) -> None:
    make(system_file)
    assert config_file.find(None, {"LEADERTAG_CONFIG": "b.toml"}) == "b.toml"


def test_a_user_s_own_file_wins_over_the_system_s(
    tmp_path: Path, system_file: Path, user: None
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    make(system_file)
    assert config_file.find(None, environ) == str(system_file)
    own = make(tmp_path / "xdg" / "leadertag" / "leadertag.toml")
    assert config_file.find(None, environ) == own


def test_a_relative_xdg_folder_is_ignored(tmp_path: Path, user: None) -> None:
    environ = {"XDG_CONFIG_HOME": "here", "HOME": str(tmp_path)}
    assert config_file.user_file(environ) == f"{tmp_path}/.config/leadertag/leadertag.toml"


def test_root_reads_no_user_s_file(tmp_path: Path, root: None) -> None:
    make(tmp_path / "xdg" / "leadertag" / "leadertag.toml")
    assert config_file.find(None, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == ""


@pytest.mark.parametrize("who", ["user", "root"])
def test_the_working_directory_is_never_looked_in(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(who)
    make(tmp_path / "leadertag.toml")
    monkeypatch.chdir(tmp_path)
    assert config_file.find(None, {"HOME": str(tmp_path / "home")}) == ""


def refusal(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config_file.read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(f"{tmp_path}/no.toml") == (
        f"{tmp_path}/no.toml: cannot be read: No such file or directory"
    )


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permission bits do not bind root, who may well run the tests.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal("/f.toml") == "/f.toml: cannot be read: Permission denied"


def test_a_name_that_no_file_can_have() -> None:
    assert "is no name of a file" in refusal("a\0b")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(b'a = "x"\nb = "\xff"\n')
    assert refusal(str(path)) == f"{path}:2: is not UTF-8 (byte 0xff)"


def test_a_device_without_end() -> None:
    assert refusal("/dev/zero") == "/dev/zero: is larger than 4 MiB, no configuration is"


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(b'\xef\xbb\xbfbackend = "local"\r\n[elections]\r\n')
    path.chmod(0o600)
    assert config_file.read(str(path)) == {"backend": "local", "elections": {}}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("backend = \n", 1, "Invalid value"),
        ("backend = 'local'\nlease = 3s\n", 2, "Expected newline"),
        ("[elections.redis]\n[elections.redis]\n", 2, "elections.redis is defined twice"),
        ("[elections]\nredis = {}\n[elections.redis]\n", 3, "elections.redis is defined twice"),
        ("backend = 'a'\nbackend = 'b'\n", 2, "has a value already"),
        ("a = 1\n\nb = [1,\n", 3, "at the end of the file"),
        ("a = \0", 1, "Invalid value"),
        ("", 0, ""),
    ],
)
def test_wrong_toml_is_told_with_its_line(
    config: Callable[[str], str], text: str, line: int, says: str
) -> None:
    path = config(text)
    if not line:
        assert config_file.read(path) == {}
        return
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    assert says in message


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_toml_that_is_too_much(config: Callable[[str], str], text: str) -> None:
    assert "is no TOML that can be read" in refusal(config(text))


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o646])
def test_root_reads_no_file_that_others_can_write(
    config: Callable[[str], str], root: None, mode: int
) -> None:
    path = config("")
    os.chmod(path, mode)
    message = refusal(path)
    assert f"mode {mode:04o}" in message
    assert "chmod go-w" in message


def test_a_user_may_read_such_a_file(config: Callable[[str], str], user: None) -> None:
    path = config("backend = 'x'")
    os.chmod(path, 0o666)
    assert config_file.read(path) == {"backend": "x"}


@pytest.mark.parametrize(("group", "refused"), [(0, False), (1000, True)])
def test_for_root_its_own_group_is_as_good_as_root(
    root: None, group: int, refused: bool, config: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = config("")
    real = os.stat(path)
    if real.st_uid != 0:
        pytest.skip("whom the file belongs to counts as well")
    fields = list(real)
    fields[0], fields[5] = real.st_mode | 0o020, group
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result(fields))
    if refused:
        assert "others than root can write" in refusal(path)
    else:
        assert config_file.read(path) == {}
