"""``use = "redis"``: makes a Redis server lead or follow, ranks it, and watches over it.

redis-py is imported in the worker processes only; the probe, which lives in the daemon,
speaks the two commands that it needs by itself (:mod:`leadertag.hooks.redis_probe`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from leadertag.errors import ConfigError, HookError
from leadertag.hooks.redis_probe import RedisProbe, RedisServer
from leadertag.hookspecs import Probe, RoleChange, hookimpl

if TYPE_CHECKING:
    from leadertag.config.table import Table
    from leadertag.model import Instance

# Nobody listens on port 1 of this host. A replica of nobody keeps its data, refuses
# writes, and can still resume from the new leader without a full copy. The alternatives
# are worse: itself as its master gives the same, but through a connection that succeeds;
# CLIENT PAUSE ends by itself; min-replicas-to-write lets a master with replicas go on.
_NOBODY = ("127.0.0.1", 1)
_DEFAULT_LIMIT = 2.0


class RedisHook:
    """REPLICAOF at role changes, the replication offset as rank, a connection as probe.

    Settings: ``url`` (redis://, rediss:// or unix://), ``username`` and ``password_file``,
    ``connect_timeout``, ``leader_port`` (0: the port that the leader is registered with),
    ``priority`` (0: never leads), ``refuse_while_syncing``, and for the probe ``interval``
    and ``ping_timeout``. The servers log in to one another with their own ``masterauth``.
    """

    requires: ClassVar[tuple[str, ...]] = ("redis",)

    def __init__(self, settings: Table) -> None:
        """Read the settings; raises ConfigError. Connects to nothing."""
        self._url = settings.text("url")
        self._username = settings.text("username", "")
        self._password_file = settings.text("password_file", "")
        self._connect_timeout = settings.seconds("connect_timeout", 0.5)
        self._leader_port = settings.integer("leader_port", 0, high=65535)
        self._priority = settings.integer("priority", 1, high=1)
        self._refuse_while_syncing = settings.flag("refuse_while_syncing", True)
        self._interval = settings.seconds("interval", 1.0)
        self._ping_timeout = settings.seconds("ping_timeout", 1.0)
        for key in ("connect_timeout", "interval", "ping_timeout"):
            if settings.seconds(key, 1.0) <= 0:
                raise ConfigError(f"{settings.where}: {key} must be longer than 0s")
        try:
            self._server = RedisServer.parse(self._url)
        except ValueError as error:
            raise ConfigError(f"{settings.where}: url {error}") from None
        if self._password_file and not os.access(self._password_file, os.R_OK):
            raise ConfigError(
                f"{settings.where}: password_file = {self._password_file!r} cannot be read"
            )

    @classmethod
    def preload(cls) -> None:
        """Import redis-py ahead of need, in a worker process."""
        import redis  # noqa: F401

    # -- role changes --------------------------------------------------------------------

    @hookimpl
    def leadertag_before_promote(self, change: RoleChange) -> None:
        """Veto while a full copy of the old leader's data is under way: half would be lost."""
        with self._connected(change) as client:
            if self._refuse_while_syncing and _replication(client)["master_sync_in_progress"]:
                raise HookError(
                    f"{self._server} is receiving a full copy of its leader's data: "
                    "leading now would lose it"
                )

    @hookimpl
    def leadertag_promote(self, change: RoleChange) -> None:
        """REPLICAOF NO ONE, and make sure of it."""
        with self._connected(change) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
            self._expect(_replication(client), role="master")

    @hookimpl
    def leadertag_verify(self, change: RoleChange) -> None:
        """It has to be a master still: one that was restarted comes back as something else."""
        with self._connected(change) as client:
            self._expect(_replication(client), role="master")

    @hookimpl
    def leadertag_demote(self, change: RoleChange) -> None:
        """Let it refuse writes at once, also on connections that are open already.

        A server that refuses connections is gone and counts as demoted. One that does not
        answer in time may be stopped only for a while: that is a failure.
        """
        try:
            with self._connected(change) as client:
                self._subordinate(client, *_NOBODY)
        except _ServerGone:
            print(f"{self._server} refuses connections: it is gone, and so demoted")

    @hookimpl
    def leadertag_follow(self, change: RoleChange) -> None:
        """REPLICAOF the leader, unless it follows that one already."""
        leader = change.leader
        if leader is None:
            return
        if leader.member == change.instance.member or not leader.address:
            raise HookError(f"{self._server} cannot follow {leader.member} at {leader.address!r}")
        target = (leader.address, self._leader_port or leader.port)
        with self._connected(change) as client:
            if _master(_replication(client)) != target:
                self._subordinate(client, *target)

    @hookimpl
    def leadertag_rank(self, change: RoleChange) -> int:
        """The more of the leader's data it has, the higher: replication offset + 1."""
        if self._priority == 0:
            return 0
        with self._connected(change) as client:
            found = _replication(client)
        replica = found["role"] == "slave"
        return int(found["slave_repl_offset" if replica else "master_repl_offset"]) + 1

    @hookimpl
    def leadertag_probe(self, election: str, instance: Instance) -> Probe:
        """Open a connection to the server that is asked every ``interval``."""
        return RedisProbe(
            self._server,
            self._credentials,
            interval=self._interval,
            timeout=self._ping_timeout,
            connect_timeout=self._connect_timeout,
        )

    # -- the server ----------------------------------------------------------------------

    def _subordinate(self, client: Any, host: str, port: int) -> None:
        """Make it a read-only replica, and cut off the clients of a former leader."""
        import redis

        led = _replication(client)["role"] == "master"
        client.execute_command("REPLICAOF", host, port)
        found = _replication(client)
        if found["role"] == "slave" and not found["slave_read_only"]:
            client.execute_command("CONFIG", "SET", "replica-read-only", "yes")
            found = _replication(client)
        self._expect(found, role="slave", slave_read_only=1, master=(host, port))
        if not led:
            return
        try:
            # They could not write any more; now they notice, and look for the new leader.
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        except redis.ResponseError as error:
            print(f"{self._server}: its clients keep their connections: {error}")

    def _expect(self, found: Mapping[str, Any], **wanted: Any) -> None:
        for name, value in wanted.items():
            actual = _master(found) if name == "master" else found.get(name)
            if actual != value:
                raise HookError(f"{self._server}: {name} is {actual!r} and not {value!r}")

    @contextmanager
    def _connected(self, change: RoleChange) -> Iterator[Any]:
        """Connect without any retry; each step may take half the time that there is.

        Raises HookError, of which _ServerGone means that connections are refused.
        """
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        half = (change.timeout or _DEFAULT_LIMIT) / 2
        username, password = self._credentials()
        login = {"username": username, "password": password}
        try:
            with redis.Redis.from_url(
                self._url,
                **{key: value for key, value in login.items() if value},
                protocol=2,
                decode_responses=True,
                socket_timeout=half,
                socket_connect_timeout=min(half, self._connect_timeout),
                retry=Retry(NoBackoff(), 0),
            ) as client:
                yield client
        except redis.RedisError as error:
            kind = _ServerGone if _refused(error) else HookError
            raise kind(f"{self._server}: {error}") from error

    def _credentials(self) -> tuple[str, str]:
        """Return name and password, read anew since they may be changed in operation."""
        if not self._password_file:
            return self._username or self._server.username, self._server.password
        try:
            with open(self._password_file, encoding="utf-8") as file:
                return self._username, file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise HookError(f"password_file {self._password_file}: {reason}") from error


class _ServerGone(HookError):
    """Nobody listens where the server should be."""


def _refused(error: BaseException | None) -> bool:
    """Whether a refused connection is behind an error of redis-py, which tells it in words."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _replication(client: Any) -> dict[str, Any]:
    """Return INFO replication, with what only replicas tell filled in."""
    return {"master_sync_in_progress": 0, **client.info("replication")}


def _master(found: Mapping[str, Any]) -> tuple[str, int] | None:
    if found["role"] != "slave":
        return None
    return str(found["master_host"]), int(found["master_port"])
