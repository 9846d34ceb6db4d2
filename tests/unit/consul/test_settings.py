"""Settings: the file over the environment over defaults, in the spellings of Consul's client."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_consul.address import Address, parse
from leadertag_consul.settings import ConsulSettings, Tls, read


def settings(data: dict[str, Any] | None = None, **environ: str) -> ConsulSettings:
    return read(Table(data or {}, "file.toml: backends.consul"), environ)


def test_defaults() -> None:
    found = settings()
    assert found.address == Address("http", "127.0.0.1", 8500)
    assert (found.token, found.token_file, found.http_auth, found.datacenter) == ("",) * 4
    assert found.tls == Tls()
    assert (found.prefix, found.timeout) == ("leadertag", 2.0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8500", Address("http", "127.0.0.1", 8500)),
        ("consul.example:8500", Address("http", "consul.example", 8500)),
        ("http://127.0.0.1:8500", Address("http", "127.0.0.1", 8500)),
        ("http://127.0.0.1:8500/", Address("http", "127.0.0.1", 8500)),
        ("https://consul.example:8501", Address("https", "consul.example", 8501)),
        # Without a port it is the scheme's, as for any URL: Consul's client adds none.
        ("https://consul.example", Address("https", "consul.example", 443)),
        ("http://consul.example", Address("http", "consul.example", 80)),
        ("[::1]:8500", Address("http", "::1", 8500)),
        ("https://[2001:db8::1]:8501", Address("https", "2001:db8::1", 8501)),
        ("unix:///run/consul/http.sock", Address("http", path="/run/consul/http.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert settings(CONSUL_HTTP_ADDR=text).address == address
    assert settings({"address": text}, CONSUL_HTTP_ADDR="other:1").address == address


@pytest.mark.parametrize(
    "text",
    ["ftp://a:1", "unix://relative", "http://", "http://a:b", "a:99999", "http://a:1/path",
     "http://user:hunter2@a:1", "http://a:1?token=hunter2", "::1:8500x"],
)  # fmt: skip
def test_wrong_addresses_are_one_line_with_their_source(text: str) -> None:
    for source, make in (
        ("CONSUL_HTTP_ADDR", lambda: settings(CONSUL_HTTP_ADDR=text)),
        ("file.toml: backends.consul: address", lambda: settings({"address": text})),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith(source)
        assert "\n" not in message
        assert "user:hunter2" not in message


@given(st.text())
def test_no_address_raises_anything_else(text: str) -> None:
    try:
        address = parse(text, "test")
    except ConfigError:
        return
    assert address.path or (address.host and 0 <= address.port < 65536)
    assert parse(str(address), "test") == address


@pytest.mark.parametrize("value", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_in_go(value: str) -> None:
    found = settings(CONSUL_HTTP_SSL=value, CONSUL_HTTP_SSL_VERIFY=value)
    assert found.address.scheme == "https"
    assert found.tls.verify


@pytest.mark.parametrize("value", ["0", "f", "F", "false", "FALSE", "False"])
def test_false_in_go(value: str) -> None:
    found = settings(CONSUL_HTTP_SSL=value, CONSUL_HTTP_SSL_VERIFY=value)
    assert found.address.scheme == "http"
    assert not found.tls.verify


@pytest.mark.parametrize("name", ["CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"])
@pytest.mark.parametrize("value", ["yes", "on", "tRuE", " true"])
def test_neither_true_nor_false(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        settings(**{name: value})


def test_tls_asked_for_is_never_turned_back() -> None:
    found = settings(CONSUL_HTTP_SSL="true", CONSUL_HTTP_ADDR="http://consul.example:8501")
    assert found.address == Address("https", "consul.example", 8501)
    # The file's address wins over both variables.
    assert settings({"address": "http://a:1"}, CONSUL_HTTP_SSL="1").address.scheme == "http"


def test_all_variables_are_read() -> None:
    found = settings(
        CONSUL_HTTP_TOKEN="t", CONSUL_HTTP_AUTH="me:secret", CONSUL_CACERT="ca.pem",
        CONSUL_CAPATH="/ca", CONSUL_CLIENT_CERT="c.pem", CONSUL_CLIENT_KEY="k.pem",
        CONSUL_TLS_SERVER_NAME="server.dc1.consul", CONSUL_HTTP_TOKEN_FILE="/t",
    )  # fmt: skip
    assert (found.token, found.token_file, found.http_auth) == ("t", "/t", "me:secret")
    assert found.tls == Tls("ca.pem", "/ca", "c.pem", "k.pem", "server.dc1.consul")


def test_the_file_wins_over_every_variable() -> None:
    data = {
        "token": "mine", "http_auth": "file:auth", "ca_file": "1", "ca_path": "2",
        "cert_file": "3", "key_file": "4", "tls_server_name": "5", "verify": True,
    }  # fmt: skip
    found = settings(
        data, CONSUL_HTTP_TOKEN="t", CONSUL_HTTP_AUTH="me:secret", CONSUL_CACERT="ca.pem",
        CONSUL_CAPATH="/ca", CONSUL_CLIENT_CERT="c.pem", CONSUL_CLIENT_KEY="k.pem",
        CONSUL_TLS_SERVER_NAME="s", CONSUL_HTTP_TOKEN_FILE="/t", CONSUL_HTTP_SSL_VERIFY="0",
    )  # fmt: skip
    assert (found.token, found.token_file, found.http_auth) == ("mine", "", "file:auth")
    assert found.tls == Tls("1", "2", "3", "4", "5")
    assert settings({"token_file": "/f"}, CONSUL_HTTP_TOKEN="t").token == ""


def test_empty_variables_are_unset() -> None:
    assert settings(CONSUL_HTTP_ADDR="", CONSUL_HTTP_SSL="", CONSUL_NAMESPACE="") == settings()


@pytest.mark.parametrize(
    ("data", "environ", "word"),
    [
        ({"token": "secret-1", "token_file": "f"}, {}, "token_file"),
        ({"cert_file": "c"}, {}, "key_file"),
        ({}, {"CONSUL_CLIENT_KEY": "k"}, "cert_file"),
        ({"prefix": "/"}, {}, "prefix"),
        ({"timeout": "0s"}, {}, "timeout"),
        ({"timeout": "soon"}, {}, "timeout"),
        ({"adress": "a:1"}, {}, "did you mean 'address'"),
        ({"verify": "no"}, {}, "verify"),
        ({}, {"CONSUL_NAMESPACE": "team"}, "CONSUL_NAMESPACE"),
    ],
)
def test_what_is_wrong_is_one_line(
    data: dict[str, Any], environ: dict[str, str], word: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(data, **environ)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret-1" not in str(caught.value)


def test_settings_do_not_show_their_secrets() -> None:
    found = settings({"token": "secret-1", "http_auth": "me:secret-2"})
    assert "secret" not in f"{found} {found!r}"
