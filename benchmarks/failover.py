"""How long a failover takes on a real Consul with real Redis, beside the machine's own floor.

``python -m benchmarks.failover [--fault NAME] [--rounds N]`` in a checkout. Each round
injects the fault on the leader's node, waits until another instance alone resolves as
leader, and mends everything again. Times come from the recorded history of the registry.
The floor is measured in the same run: one write to Consul's KV store until a blocking read
on another agent wakes up; no system built on Consul can be faster than a few of those.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.e2e.site import Node, Site
from tests.tools.consul import ConsulCluster
from tests.tools.recorder import ServiceRecorder

FLOOR_ROUNDS = 60


@dataclass(frozen=True)
class Fault:
    """Something that befalls the leader's node, and how it is mended."""

    what: str
    strike: Callable[[Node], object]
    mend: Callable[[Node], object]
    probe: bool = True
    on_stop: str = "keep"


def _kill_host(node: Node) -> None:
    node.daemon.kill_all()
    node.redis.kill()
    node.agent.kill()


def _start_host(node: Node) -> None:
    node.agent.start()
    node.redis.start()
    node.agent.wait_ready()
    node.daemon.start()


def _restart_daemon(node: Node) -> None:
    node.daemon.stop()
    node.daemon.start()


def _maintain(node: Node, *, on: bool) -> None:
    params = {"enable": str(on).lower()}
    node.agent.api("PUT", f"/v1/agent/service/maintenance/{node.service_id}", None, params)


FAULTS = {
    "redis": Fault(
        "Redis killed; the hook's probe notices",
        lambda node: node.redis.kill(),
        lambda node: node.redis.start(),
    ),
    "redis-check": Fault(
        "Redis killed; only Consul's TCP check (1 s) notices",
        lambda node: node.redis.kill(),
        lambda node: node.redis.start(),
        probe=False,
    ),
    "maintenance": Fault(
        "the service put into maintenance",
        lambda node: _maintain(node, on=True),
        lambda node: _maintain(node, on=False),
    ),
    "stop": Fault(
        "the daemon stopped with SIGTERM, on_stop = release",
        lambda node: node.daemon.terminate(),
        _restart_daemon,
        on_stop="release",
    ),
    "daemon": Fault(
        "the daemon killed; its guardian gives up (lease 3 s)",
        lambda node: node.daemon.kill(),
        lambda node: node.daemon.start(),
    ),
    "host": Fault(
        "agent, Redis, daemon and guardian killed",
        _kill_host,
        _start_host,
    ),
}


# -- measuring -----------------------------------------------------------------------------


def floor(cluster: ConsulCluster) -> list[float]:
    """Seconds from the start of a KV write on n1 to the end of a blocking read on n2."""
    writer, reader = cluster.agents[0].client, cluster.agents[1].client
    path, took = "/v1/kv/benchmark/floor", []
    writer.request("PUT", path, b"0")
    index = reader.request("GET", path)[1]["x-consul-index"]
    for n in range(1, FLOOR_ROUNDS + 1):
        woken: list[tuple[float, str]] = []

        def read(index: str = index, woken: list[tuple[float, str]] = woken) -> None:
            params = {"index": index, "wait": "10s"}
            headers = reader.request("GET", path, None, params, timeout=20)[1]
            woken.append((time.monotonic(), headers["x-consul-index"]))

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.05)  # until the read hangs at the server
        began = time.monotonic()
        writer.request("PUT", path, str(n).encode())
        thread.join()
        took.append(woken[0][0] - began)
        index = woken[0][1]
    return took


@dataclass(frozen=True)
class Round:
    """Seconds of one failover. ``since_check`` is None where no check turned critical."""

    since_fault: float
    since_check: float | None


def fail_over(site: Site, recorder: ServiceRecorder, fault: Fault) -> Round:
    """One round."""
    old = site.wait_for_leader(recorder)
    site.wait_settled()
    began = time.monotonic()
    fault.strike(old)
    new = site.wait_for_leader(recorder, not_on=old, settled=False)
    seen = [s for s in recorder.observations if s.at >= began]
    led = next(s.at for s in seen if any(i.node == new.name for i in s.passing_with_tag("master")))
    fault.mend(old)
    site.wait_for_leader(recorder)
    critical = [
        c.at
        for c in recorder.timeline()
        if c.at >= began and c.node == old.name and c.what == f"tcp:{old.service_id} critical"
    ]
    return Round(led - began, led - critical[0] if critical else None)


def measure(name: str, rounds: int, folder: Path) -> tuple[list[float], list[Round]]:
    """The floor and the rounds, on servers of their own."""
    fault = FAULTS[name]
    with ConsulCluster(folder / "consul", 3) as cluster:
        site = Site(cluster, folder / "site", "redis")
        try:
            site.start()
            base = floor(cluster)
            with site.recorder() as recorder:
                site.start_daemons(probe=fault.probe, on_stop=fault.on_stop)
                done = [fail_over(site, recorder, fault) for _ in range(rounds)]
                recorder.assert_at_most_one("master")
                return base, done
        finally:
            site.close()


# -- telling ---------------------------------------------------------------------------------


def report(name: str, base: Sequence[float], rounds: Sequence[Round]) -> None:
    """Print the medians."""
    unit = statistics.median(base)
    print(f"{name}: {FAULTS[name].what}; {len(rounds)} rounds")
    print(f"  floor, KV write to blocking read   {1000 * unit:9.1f} ms")
    line("fault to new leader resolved", [r.since_fault for r in rounds], unit)
    checked = [r.since_check for r in rounds if r.since_check is not None]
    line("check critical to new leader", checked, unit)


def line(what: str, values: Sequence[float], unit: float) -> None:
    """Print one median, its range, and how many floors it is."""
    if not values:
        print(f"  {what:<34} no check turned critical")
        return
    low, middle, high = min(values), statistics.median(values), max(values)
    print(
        f"  {what:<34} {1000 * middle:9.1f} ms  ({1000 * low:.1f} to {1000 * high:.1f}), "
        f"{middle / unit:.1f} x floor"
    )


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=[*FAULTS, "all"], default="redis")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args(argv)
    for name in FAULTS if options.fault == "all" else [options.fault]:
        with tempfile.TemporaryDirectory(prefix="lt-") as folder:
            report(name, *measure(name, options.rounds, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
