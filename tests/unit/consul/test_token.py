"""Tokens that cannot be sent are refused without being shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_consul.files import LONGEST_TOKEN, Token
from leadertag_consul.settings import read

SECRET = "sekrit"


@pytest.mark.parametrize("tail", ["\nX", "\rX", "\x00", "\u20ac", "x" * LONGEST_TOKEN])
@pytest.mark.parametrize("source", ["variable", "file", "setting"])
def test_a_token_that_is_no_header_is_refused_unseen(
    tail: str, source: str, tmp_path: Path
) -> None:
    value = SECRET + tail
    environ, data = {}, {}
    if source == "variable":
        environ["CONSUL_HTTP_TOKEN"] = value
    elif source == "file":
        (tmp_path / "token").write_text(value, newline="")
        data["token_file"] = str(tmp_path / "token")
    else:
        data["token"] = value
    with pytest.raises(ConfigError) as caught:
        Token(read(Table(data, "here"), environ))()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_token_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most"):
        Token(read(Table({"token_file": "/dev/zero"}, "here"), {}))()
