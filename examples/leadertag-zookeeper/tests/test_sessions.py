"""What the contracts cannot know: sessions that are shared, broken, let go, and kept secret."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from harness import ADMIN, ZooKeeperHarness
from leadertag.errors import BackendUnavailable, LeaseLost, PermissionDenied
from leadertag.model import Instance, Lease, Phase, Record, TagChange
from leadertag.plan import PLAN, Note
from leadertag.testing.contracts import Member

KEY = "redis/master"
LEAD = TagChange(add=("master",))


def taken(member: Member, key: str = KEY) -> Lease:
    record = Record(member.name, "redis", member.name, "127.0.0.1", 6379, Phase.ELECTED)
    lease = member.lock.acquire(member.lock.read(key), record)
    assert isinstance(lease, Lease)
    return lease


def keep_alive_for_ever(member: Member) -> None:
    while True:
        member.lock.keep_alive()


def password_of(zookeeper: ZooKeeperHarness, session: str) -> str:
    found = json.loads(zookeeper.admin.get(zookeeper.names.session(session))[0])["password"]
    assert len(found) == 32
    return str(found)


def test_a_process_whose_session_was_taken_up_does_not_fight_for_it(
    zookeeper: ZooKeeperHarness,
) -> None:
    """The server lets the newer connection in and throws the older one out: for ever, if both
    connect again."""
    old = zookeeper.join("a")
    session = old.lock.open("a", ttl=zookeeper.ttl)
    lease = taken(old)
    new = zookeeper.member("a")
    assert new.lock.open("a", ttl=zookeeper.ttl, session=session) == session
    with pytest.raises(LeaseLost, match="taken"):
        keep_alive_for_ever(old)
    assert old.lock.confirm([lease]) == frozenset()
    for _ in range(100):
        new.lock.keep_alive()
        assert new.lock.confirm([lease]) == {KEY}
    with pytest.raises(LeaseLost):
        old.lock.update(lease, lease.record)
    assert old.lock.open("a", ttl=zookeeper.ttl) != session


def test_opening_it_again_is_a_sign_of_life(zookeeper: ZooKeeperHarness) -> None:
    """The guardian does so, time and again."""
    member = zookeeper.join("a")
    session = member.lock.open("a", ttl=zookeeper.ttl)
    lease = taken(member)
    for _ in range(3):
        assert member.lock.open("a", ttl=zookeeper.ttl, session=session) == session
    assert member.lock.confirm([lease]) == {KEY}


def test_a_broken_connection_costs_no_lock(zookeeper: ZooKeeperHarness) -> None:
    member = zookeeper.join("a")
    member.lock.open("a", ttl=zookeeper.ttl)
    lease = taken(member)
    for _ in range(3):
        zookeeper.relays["a"].break_all()
        member.lock.keep_alive()
        assert member.lock.confirm([lease]) == {KEY}
    lease = member.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
    assert member.lock.read(KEY).leader == lease.record


def test_a_hint_that_is_no_session_is_replaced(zookeeper: ZooKeeperHarness) -> None:
    member = zookeeper.join("a")
    for hint in ("", "0", "100000deadbeef", "../holder/x", "größe", "x" * 500):
        assert member.lock.open("a", ttl=zookeeper.ttl, session=hint) not in ("", hint)


def test_a_session_node_that_somebody_spoilt_is_no_session(zookeeper: ZooKeeperHarness) -> None:
    session = zookeeper.join("a").lock.open("a", ttl=zookeeper.ttl)
    path = zookeeper.names.session(session)
    good = json.loads(zookeeper.admin.get(path)[0])
    for spoilt in (b"", b"{}", b"[1]", b"\xff", json.dumps({**good, "session": 1}).encode(),
                   json.dumps({**good, "password": "xyz"}).encode(),
                   json.dumps({**good, "password": "00" * 16}).encode()):  # fmt: skip
        zookeeper.admin.set(path, spoilt)
        again = zookeeper.join("a").lock.open("a", ttl=zookeeper.ttl, session=session)
        assert again not in ("", session)


def test_no_verb_waits_for_ever(zookeeper: ZooKeeperHarness) -> None:
    """kazoo does, or at least for most of a session's life: a server that accepts and says
    nothing is the worst of all."""
    relay = zookeeper.relay("a")
    member = zookeeper.member("a", hosts=[relay.address], timeout="1s")
    member.lock.open("a", ttl=40.0)
    lease = taken(member)
    here = Instance("redis", "", "redis", "127.0.0.1", 6379)
    zookeeper.register(member, here)
    member.registry.heartbeat()
    watch = member.lock.watch([KEY])
    watch.poll(5)
    verbs: list[Callable[[], object]] = [
        lambda: member.lock.read(KEY),
        lambda: member.lock.confirm([lease]),
        lambda: member.lock.keep_alive(),
        lambda: member.lock.update(lease, lease.record),
        lambda: member.lock.write_note(KEY, PLAN, Note(b"x")),
        lambda: member.registry.heartbeat(),
        lambda: member.registry.members("redis"),
        lambda: member.registry.tag("redis", LEAD, timeout=1.0),
        lambda: member.query.list(),
    ]
    with relay.silent():
        failures: list[BaseException] = []

        def call(verb: Callable[[], object]) -> None:
            try:
                verb()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=call, args=(verb,), daemon=True) for verb in verbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert {type(error) for error in failures} <= {BackendUnavailable, LeaseLost}
    assert len(failures) >= len(verbs) - 1  # a confirmation may say that nothing is held
    watch.close()


def test_secrets_are_in_no_log(
    zookeeper: ZooKeeperHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """kazoo's own debug lines show every request, and what sessions are taken up with."""
    caplog.set_level(1)
    member = zookeeper.member("a", user="ops", password="open sesame")
    session = member.lock.open("a", ttl=zookeeper.ttl)
    taken(member)
    zookeeper.admin.add_auth("digest", "ops:open sesame")  # it reads what they wrote
    password = password_of(zookeeper, session)
    again = zookeeper.member("a", user="ops", password="open sesame")
    assert again.lock.open("a", ttl=zookeeper.ttl, session=session) == session
    with pytest.raises(LeaseLost) as caught:
        keep_alive_for_ever(member)
    logging.getLogger("test").debug("this is captured")
    records = [record.getMessage() for record in caplog.records if record.name != ADMIN]
    said = "\n".join([*records, str(caught.value), session])
    assert "this is captured" in said
    assert "open sesame" not in said
    assert password not in said
    assert str(bytes.fromhex(password)) not in said


def test_whoever_may_not_is_told(zookeeper: ZooKeeperHarness) -> None:
    owner = zookeeper.member("a", user="ops", password="open sesame")
    zookeeper.admin.add_auth("digest", "ops:open sesame")  # or it could not tidy up
    session = owner.lock.open("a", ttl=zookeeper.ttl)
    lease = taken(owner)
    for stranger in (
        zookeeper.member("b"),
        zookeeper.member("c", user="ops", password="wrong"),
    ):
        verbs: list[Callable[[], object]] = [
            lambda m=stranger: m.lock.read(KEY),
            lambda m=stranger: m.lock.open("b", ttl=zookeeper.ttl),
            lambda m=stranger: m.lock.open("b", ttl=zookeeper.ttl, session=session),
            lambda m=stranger: m.lock.write_note(KEY, PLAN, Note(b"x")),
            lambda m=stranger: m.registry.register(
                Instance("redis", "", "redis", "127.0.0.1", 6379)
            ),
        ]
        for verb in verbs:
            with pytest.raises(PermissionDenied) as caught:
                verb()
            assert "\n" not in str(caught.value)
            assert "wrong" not in str(caught.value)
    assert owner.lock.confirm([lease]) == {KEY}
