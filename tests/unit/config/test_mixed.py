"""Backends of several kinds together: which go, which default follows, which are refused."""

from __future__ import annotations

import pytest

from leadertag.backends import check_instances, open_providers
from leadertag.config.installed import check_installed
from leadertag.config.load import Options
from leadertag.config.settings import Settings
from leadertag.errors import ConfigError
from tests.unit.config.conftest import Load

ELECTION = """
[backends.local]
path = "{folder}/leadertag.db"
[elections.redis]
service = "redis"
query = "redis-leader"
"""


@pytest.mark.parametrize("lock", ["consul", "etcd", "local"])
@pytest.mark.parametrize("registry", ["consul", "etcd", "local"])
def test_the_query_is_the_registry_s_where_nobody_speaks_of_it(
    load_text: Load, lock: str, registry: str
) -> None:
    settings = load_text(f'lock = "{lock}"\nregistry = "{registry}"')
    assert (settings.lock, settings.registry, settings.query) == (lock, registry, registry)


def test_without_a_word_everything_is_consul(load_text: Load) -> None:
    settings = load_text("")
    assert {settings.lock, settings.registry, settings.query} == {"consul"}
    settings = load_text('lock = "etcd"')
    assert (settings.lock, settings.registry, settings.query) == ("etcd", "consul", "consul")


def test_the_highest_layer_that_speaks_of_a_query_wins(load_text: Load) -> None:
    settings = load_text('backend = "etcd"', Options({"registry": "consul"}))
    assert (settings.registry, settings.query) == ("consul", "etcd")
    settings = load_text('registry = "local"', LEADERTAG_QUERY_BACKEND="etcd")
    assert (settings.registry, settings.query) == ("local", "etcd")


def both_refuse(settings: Settings) -> str:
    """What the quick check and the opening of the providers say alike."""
    told = []
    for refuse in (check_installed, lambda s: open_providers(s, environ={})):
        with pytest.raises(ConfigError) as caught:
            refuse(settings)
        told.append(str(caught.value))
    assert told[0] == told[1]
    return told[0]


def test_a_query_that_could_never_answer(load_text: Load) -> None:
    told = both_refuse(load_text('lock="etcd"\nregistry="etcd"\nquery="consul"' + ELECTION))
    assert "query = 'consul' answers with instances that are registered in 'consul'" in told
    assert "registry = 'etcd'" in told
    assert told.endswith("set query = 'etcd'")
    assert "\n" not in told


def test_it_may_stand_there_where_no_election_asks_for_a_query(load_text: Load) -> None:
    text = 'registry = "local"\nquery = "consul"' + ELECTION.replace('query = "redis-leader"', "")
    settings = load_text(text)
    check_installed(settings)
    open_providers(settings, environ={}).close()


@pytest.mark.parametrize(
    ("lock", "registry"), [("etcd", "consul"), ("consul", "etcd"), ("consul", "local"),
                           ("local", "consul"), ("etcd", "local"), ("local", "etcd")],
)  # fmt: skip
def test_every_lock_goes_with_every_registry(load_text: Load, lock: str, registry: str) -> None:
    settings = load_text(f'lock = "{lock}"\nregistry = "{registry}"' + ELECTION)
    check_installed(settings)
    providers = open_providers(settings, environ={})
    named = (providers.lock_backend, providers.registry_backend, providers.query_backend)
    assert named == (lock, registry, registry)
    providers.close()


@pytest.mark.parametrize("registry", ["consul", "etcd", "local"])
def test_an_instance_that_nobody_knows(load_text: Load, registry: str) -> None:
    settings = load_text(f'lock = "consul"\nregistry = "{registry}"' + ELECTION)
    providers = open_providers(settings, environ={})
    if registry == "consul":
        check_instances(settings, providers.registry)
    else:
        with pytest.raises(ConfigError) as caught:
            check_instances(settings, providers.registry)
        assert "elections.redis: registry = " in str(caught.value)
        assert "a table [elections.redis.instance]" in str(caught.value)
    providers.close()
    instance = '[elections.redis.instance]\naddress = "10.0.0.1"\nport = 6379\n'
    settings = load_text(f'lock = "consul"\nregistry = "{registry}"' + ELECTION + instance)
    providers = open_providers(settings, environ={})
    check_instances(settings, providers.registry)
    providers.close()


def test_a_predecessor_that_the_lock_s_backend_never_had(load_text: Load) -> None:
    compat = 'compat = "consul-master-election-tagger"\n'
    open_providers(load_text('lock = "consul"' + ELECTION + compat), environ={}).close()
    with pytest.raises(ConfigError) as caught:
        open_providers(load_text('lock = "etcd"' + ELECTION + compat), environ={})
    assert "elections.redis: compat = 'consul-master-election-tagger'" in str(caught.value)
    assert "'etcd' has no such predecessor" in str(caught.value)


def test_the_name_of_a_process(load_text: Load) -> None:
    """The same after a restart, another one for another instance on the same node."""
    text = 'backend = "consul"' + ELECTION
    first = load_text(text)
    assert first.owner == load_text(text).owner
    assert first.owner.startswith("leadertag-")
    assert first.owner != load_text(text + 'service_id = "redis-2"\n').owner
    described = '[elections.redis.instance]\nid = "redis-2"\naddress = "10.0.0.1"\nport = 1\n'
    assert load_text(text + described).owner == load_text(text + 'service_id = "redis-2"\n').owner
