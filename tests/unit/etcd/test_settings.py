"""Settings: the file over etcdctl's variables over defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_etcd.address import Endpoint, parse
from leadertag_etcd.settings import EtcdSettings, Tls, read


def settings(data: dict[str, Any] | None = None, **environ: str) -> EtcdSettings:
    return read(Table(data or {}, "file.toml: backends.etcd"), environ)


def test_defaults() -> None:
    found = settings()
    assert found.endpoints == (Endpoint("127.0.0.1:2379"),)
    assert (found.user, found.password, found.password_file) == ("",) * 3
    assert found.tls == Tls()
    assert (found.prefix, found.timeout) == ("leadertag", 2.0)
    assert (found.gate_ttl, found.report_ttl) == (2, 15)
    assert found.node


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:2379", Endpoint("127.0.0.1:2379")),
        ("etcd.example", Endpoint("etcd.example:2379")),
        ("http://etcd.example:2379", Endpoint("etcd.example:2379")),
        ("http://etcd.example:2379/", Endpoint("etcd.example:2379")),
        ("https://etcd.example", Endpoint("etcd.example:2379", tls=True)),
        ("[::1]:2379", Endpoint("[::1]:2379")),
        ("https://[2001:db8::1]", Endpoint("[2001:db8::1]:2379", tls=True)),
        ("unix:///run/etcd.sock", Endpoint("unix:/run/etcd.sock")),
        ("unixs:///run/etcd.sock", Endpoint("unix:/run/etcd.sock", tls=True)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert settings(ETCDCTL_ENDPOINTS=text).endpoints == (endpoint,)
    assert settings({"endpoints": [text]}, ETCDCTL_ENDPOINTS="other:1").endpoints == (endpoint,)


def test_several_endpoints_keep_their_order_and_each_counts_once() -> None:
    three = (Endpoint("c:1"), Endpoint("a:2"), Endpoint("b:3"))
    assert settings(ETCDCTL_ENDPOINTS="c:1, a:2,b:3,c:1").endpoints == three
    assert settings({"endpoints": ["c:1", "a:2", "b:3"]}).endpoints == three
    # One string: as a variable of leadertag's own brings it.
    assert settings({"endpoints": "c:1,a:2,b:3"}).endpoints == three


@pytest.mark.parametrize(
    "text",
    ["ftp://a:1", "unix://relative", "http://", "http://a:b", "a:99999", "http://a:1/path",
     "http://user:hunter2@a:1", "http://a:1?x=1", "::1:8500x", "a b:1"],
)  # fmt: skip
def test_wrong_endpoints_are_one_line_with_their_source(text: str) -> None:
    for source, make in (
        ("ETCDCTL_ENDPOINTS", lambda: settings(ETCDCTL_ENDPOINTS=text)),
        ("file.toml: backends.etcd: endpoints", lambda: settings({"endpoints": [text]})),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith(source)
        assert "\n" not in message
        assert "hunter2" not in message


@given(st.text())
def test_no_endpoint_raises_anything_else(text: str) -> None:
    try:
        endpoint = parse(text, "test", tls=False)
    except ConfigError:
        return
    assert endpoint.target


def test_when_tls_is_spoken() -> None:
    """As etcdctl: the scheme says so; without one, what is set of TLS does."""
    plain, encrypted = (Endpoint("a:1"),), (Endpoint("a:1", tls=True),)
    assert settings(ETCDCTL_ENDPOINTS="a:1").endpoints == plain
    assert settings(ETCDCTL_ENDPOINTS="a:1", ETCDCTL_CACERT="ca.pem").endpoints == encrypted
    insecure = {"ETCDCTL_INSECURE_TRANSPORT": "false"}
    assert settings(ETCDCTL_ENDPOINTS="a:1", **insecure).endpoints == encrypted
    assert settings(
        {"insecure_transport": True}, ETCDCTL_ENDPOINTS="a:1", **insecure
    ).endpoints == (plain)
    assert settings(ETCDCTL_ENDPOINTS="http://a:1", ETCDCTL_CACERT="ca.pem").endpoints == plain
    # Read, whatever else decides: it is no unknown key.
    assert settings({"insecure_transport": True, "ca_file": "ca.pem"}).endpoints[0].tls


def test_all_variables_are_read() -> None:
    found = settings(
        ETCDCTL_CACERT="ca.pem", ETCDCTL_CERT="c.pem", ETCDCTL_KEY="k.pem", ETCDCTL_USER="me",
        ETCDCTL_PASSWORD="secret:1", ETCDCTL_TLS_SERVER_NAME="etcd",
        ETCDCTL_COMMAND_TIMEOUT="1s500ms", ETCDCTL_KEEPALIVE_TIME="20s",
        ETCDCTL_KEEPALIVE_TIMEOUT="2s",
    )  # fmt: skip
    assert found.tls == Tls("ca.pem", "c.pem", "k.pem", "etcd")
    assert (found.user, found.password) == ("me", "secret:1")
    assert (found.timeout, found.keepalive_time, found.keepalive_timeout) == (1.5, 20.0, 2.0)


def test_the_file_wins_over_every_variable() -> None:
    data = {
        "ca_file": "1", "cert_file": "2", "key_file": "3", "tls_server_name": "4", "user": "u",
        "password": "p", "timeout": "3s", "keepalive_time": "30s", "keepalive_timeout": "4s",
    }  # fmt: skip
    found = settings(
        data, ETCDCTL_CACERT="ca.pem", ETCDCTL_CERT="c.pem", ETCDCTL_KEY="k.pem",
        ETCDCTL_USER="me:secret", ETCDCTL_PASSWORD="secret", ETCDCTL_TLS_SERVER_NAME="etcd",
        ETCDCTL_COMMAND_TIMEOUT="9s", ETCDCTL_KEEPALIVE_TIME="9s", ETCDCTL_KEEPALIVE_TIMEOUT="9s",
    )  # fmt: skip
    assert found.tls == Tls("1", "2", "3", "4")
    assert (found.user, found.password) == ("u", "p")
    assert (found.timeout, found.keepalive_time, found.keepalive_timeout) == (3.0, 30.0, 4.0)
    by_file = settings({"user": "u", "password_file": "/f"}, ETCDCTL_PASSWORD="secret")
    assert (by_file.password, by_file.password_file) == ("", "/f")


def test_user_and_password_in_one_variable() -> None:
    found = settings(ETCDCTL_USER="me:se:cret")
    assert (found.user, found.password) == ("me", "se:cret")
    # With a password of its own, as for etcdctl, the whole is the name.
    found = settings(ETCDCTL_USER="me:too", ETCDCTL_PASSWORD="p")
    assert (found.user, found.password) == ("me:too", "p")
    assert settings({"user": "u"}, ETCDCTL_PASSWORD="p").user == "u"


def test_empty_variables_are_unset() -> None:
    names = ("ENDPOINTS", "CACERT", "USER", "PASSWORD", "INSECURE_TRANSPORT", "COMMAND_TIMEOUT")
    assert settings(**{f"ETCDCTL_{name}": "" for name in names}) == settings()


def test_a_connection_is_not_probed_more_often_than_etcd_allows() -> None:
    assert settings({"keepalive_time": "1s"}).keepalive_time == 5.0


@pytest.mark.parametrize(
    ("data", "environ", "word"),
    [
        ({"password": "secret-1", "password_file": "f", "user": "u"}, {}, "password_file"),
        ({"password": "secret-1"}, {}, "user"),
        ({"user": "u"}, {}, "password"),
        ({}, {"ETCDCTL_USER": "u"}, "password"),
        ({}, {"ETCDCTL_PASSWORD": "secret-1"}, "user"),
        ({"cert_file": "c"}, {}, "key_file"),
        ({}, {"ETCDCTL_KEY": "k"}, "cert_file"),
        ({"prefix": "/"}, {}, "prefix"),
        ({"timeout": "0s"}, {}, "timeout"),
        ({"gate_life": "1s"}, {}, "gate_life"),
        ({"report_life": "2500ms"}, {}, "whole seconds"),
        ({"endpoint": ["a:1"]}, {}, "did you mean 'endpoints'"),
        ({"endpoints": []}, {}, "names no endpoint"),
        ({"endpoints": 1}, {}, "endpoints"),
        ({}, {"ETCDCTL_COMMAND_TIMEOUT": "soon"}, "ETCDCTL_COMMAND_TIMEOUT"),
        ({}, {"ETCDCTL_INSECURE_TRANSPORT": "yes"}, "ETCDCTL_INSECURE_TRANSPORT"),
        ({}, {"ETCDCTL_DISCOVERY_SRV": "example.com"}, "ETCDCTL_DISCOVERY_SRV"),
        (
            {"endpoints": ["https://a:1"]},
            {"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"},
            "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
        ),
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
    found = settings({"user": "u", "password": "secret-1"})
    assert "secret" not in f"{found} {found!r}"
