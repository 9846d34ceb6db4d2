"""A whole host dies and comes back, or is cut off: never two that resolve as leader."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.e2e.site import Site, role_of
from tests.tools.consul import ConsulCluster
from tests.tools.processes import wait_until


def test_the_leaders_host_dies_and_returns(
    make_cluster: Callable[..., ConsulCluster], make_site: Callable[..., Site]
) -> None:
    site = make_site(make_cluster())
    with site.recorder() as recorder:
        site.start_daemons()
        first = site.wait_for_leader(recorder)
        site.wait_for_redis(first)
        site.wait_settled()
        term = site.lock()["term"]

        first.daemon.kill_all()
        first.redis.kill()
        first.agent.kill()
        second = site.wait_for_leader(recorder, not_on=first)
        site.wait_for_redis(second, down=first)
        assert site.lock()["term"] > term

        first.agent.start()
        first.redis.start()  # a master of its own, until it is told otherwise
        first.agent.wait_ready()
        first.daemon.start()
        recorder.wait_for(
            lambda seen: all(i.passing and role_of(i) for i in seen.instances), 60, "it is back"
        )
        assert site.wait_for_leader(recorder) is second
        site.wait_for_redis(second)
        site.wait_settled()
        recorder.assert_at_most_one("master")


def test_a_stopped_daemon_is_replaced_by_its_guardian(site: Site) -> None:
    """Stopped, not dead: the guardian ends it, demotes Redis, and another one leads."""
    with site.recorder() as recorder:
        site.start_daemons()
        first = site.wait_for_leader(recorder)
        site.wait_for_redis(first)
        site.wait_settled()
        first.daemon.process.pause()
        second = site.wait_for_leader(recorder, not_on=first, settled=False)
        wait_until(lambda: first.redis.role() == "slave", 20, "its Redis was demoted")
        assert not first.daemon.process.running
        first.daemon.start()
        site.wait_settled()
        assert site.wait_for_leader(recorder) is second
        site.wait_for_redis(second)
        recorder.assert_at_most_one("master")


def test_a_stopped_redis_is_replaced(site: Site) -> None:
    """It still accepts connections, so the TCP check passes: the probe finds out."""
    with site.recorder() as recorder:
        site.start_daemons()
        first = site.wait_for_leader(recorder)
        site.wait_for_redis(first)
        site.wait_settled()
        first.redis.pause()
        # It cannot be demoted while it is stopped: nobody leads until it is known to be gone.
        wait_until(
            lambda: first.describe()["state"] in ("stuck", "watching"), 20, "it does not lead"
        )
        recorder.wait_for(lambda seen: not seen.passing_with_tag("master"), 20, "nobody resolves")
        first.redis.resume()
        leader = site.wait_for_leader(recorder)
        site.wait_for_redis(leader)
        recorder.assert_at_most_one("master")


def test_the_leaders_agent_restarts(
    make_cluster: Callable[..., ConsulCluster], make_site: Callable[..., Site]
) -> None:
    """Quickly: the role may stay or go, but there is one leader in the end, and never two."""
    site = make_site(make_cluster())
    with site.recorder() as recorder:
        site.start_daemons()
        first = site.wait_for_leader(recorder)
        site.wait_settled()
        first.agent.restart()
        site.wait_settled()
        leader = site.wait_for_leader(recorder)
        site.wait_for_redis(leader)
        recorder.assert_at_most_one("master")
