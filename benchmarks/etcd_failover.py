"""How long a change of leader takes on a three-member etcd cluster, beside etcd's own floor.

``python -m benchmarks.etcd_failover [--fault NAME] [--rounds N] [--json]`` in a checkout. Three
hosts with a Redis server and `leadertag run` each. Every round injects the fault on the leader,
waits until another one alone is resolved as leader, and mends everything. Times come from the
recorded revisions; the whole history is checked against the promises as well.

Two floors are measured in the same run: one write at one member until a watch at another one
tells of it, and, for what only expiry can end, an etcd lease of the session's length from its
last keep-alive until the watch tells that its key is gone.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.clock import now
from tests.chaos.seen import leaders_in
from tests.integration.etcd.site import Node, Site
from tests.tools.etcd import CLIENT_PORT, EtcdCluster, EtcdMember

LEASE = 3.0
SESSION = 2 * LEASE
"""Seconds of the etcd lease that the locks of a process hang on."""
WRITES, EXPIRIES = 50, 2


@dataclass(frozen=True)
class Fault:
    """What befalls the leader, how it is mended, and the bound that `explain` prints for it."""

    what: str
    strike: Callable[[Site, Node], None]
    mend: Callable[[Node], None]
    bound: str
    expiry: bool = False


FAULTS = {
    "service": Fault(
        "the service is killed",
        lambda site, node: site.kill_redis(node),
        lambda node: node.start_redis(),
        "service fails",
    ),
    "process": Fault(
        "daemon and guardian are killed, the service lives",
        lambda site, node: site.kill_daemon_and_guardian(node),
        lambda node: node.daemon.start(),
        "host lost",
        expiry=True,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """Seconds, and how many times the floor the median is."""

    fault: str
    seconds: list[float]
    floor: float
    ratio: float
    bound: float
    broken: list[str]
    fenced: int
    """Services that were ended by `fence`, because `demote` overran its limit: in a restart."""


# -- the floors --------------------------------------------------------------------------------


def watch(member: EtcdMember, key: str, begun: threading.Event, told: list[float]) -> None:
    """Note when one change of the key is told, through a watch of its own at that member."""
    encoded = base64.b64encode(key.encode()).decode()
    connection = http.client.HTTPConnection(member.ip, CLIENT_PORT, timeout=60)
    connection.request("POST", "/v3/watch", json.dumps({"create_request": {"key": encoded}}))
    response = connection.getresponse()
    while line := response.readline():
        result = json.loads(line)["result"]
        if result.get("created"):
            begun.set()
        if result.get("events"):
            told.append(now())
            break
    connection.close()


def told_after(member: EtcdMember, key: str, happen: Callable[[], float]) -> float:
    """Seconds from what `happen` returns until the watch at the member has told of the key."""
    begun, told = threading.Event(), list[float]()
    thread = threading.Thread(target=watch, args=(member, key, begun, told), daemon=True)
    thread.start()
    if not begun.wait(20):
        raise AssertionError("the watch has not begun")
    since = happen()
    thread.join(60)
    return told[0] - since


def write_floor(cluster: EtcdCluster) -> float:
    """The median of some writes."""
    writer, reader = cluster.members[0], cluster.members[1]

    def write() -> float:
        at = now()
        writer.put("floor", "x")
        return at

    return statistics.median(told_after(reader, "floor", write) for _ in range(WRITES))


def expiry_floor(cluster: EtcdCluster) -> float:
    """The median time that a key outlives the last keep-alive of its lease."""
    writer, reader = cluster.members[0], cluster.members[1]

    def expire() -> float:
        lease = writer.call("lease/grant", {"TTL": round(SESSION)})["ID"]
        key = base64.b64encode(b"expiring").decode()
        writer.call("kv/put", {"key": key, "value": key, "lease": lease})
        at = now()
        writer.call("lease/keepalive", {"ID": lease})
        return at

    def expires() -> float:
        kept: list[float] = []

        def begin() -> float:
            kept.append(expire())
            return kept[0]

        told_after(reader, "expiring", begin)  # that the key was made is told first
        return told_after(reader, "expiring", lambda: kept[0])

    return statistics.median(expires() for _ in range(EXPIRIES))


# -- the faults --------------------------------------------------------------------------------


def fail_over(site: Site, fault: Fault) -> float:
    """One round: seconds from the fault until another one alone is resolved."""
    old = site.wait_settled()
    struck = now()
    fault.strike(site, old)
    site.wait_for_leader(but=old)
    led = next(
        line["t"] for line in site.recorder.lines
        if line["kind"] == "registry" and line["t"] > struck
        and leaders_in(line["instances"]) not in ([], [old.name])
    )  # fmt: skip
    fault.mend(old)
    site.wait_settled()
    return float(led) - struck


def measure(name: str, rounds: int, folder: Path) -> Outcome:
    """The floor and the rounds, on servers of their own."""
    fault = FAULTS[name]
    with EtcdCluster(folder / "etcd", 3) as cluster:
        floor = expiry_floor(cluster) if fault.expiry else write_floor(cluster)
        with Site(cluster, folder / "site", LEASE) as site:
            seconds = [fail_over(site, fault) for _ in range(rounds)]
            broken = [f"{one.promise}: {one.what}" for one in site.verdict().broken]
            ratio = statistics.median(seconds) / floor
            bound = site.bounds()[fault.bound]
            return Outcome(name, seconds, floor, ratio, bound, broken, site.fenced)


def describe(one: Outcome) -> str:
    """For people."""
    fault = FAULTS[one.fault]
    floor = "a lease expires" if fault.expiry else "a write is told"
    low, middle, high = min(one.seconds), statistics.median(one.seconds), max(one.seconds)
    return (
        f"{one.fault}: {fault.what}; {len(one.seconds)} rounds, lease {LEASE:g} s\n"
        f"  floor, {floor:<24} {one.floor:8.4f} s\n"
        f"  fault to new leader resolved    {middle:8.4f} s  ({low:.4f} to {high:.4f}), "
        f"{one.ratio:.1f} x floor\n"
        f"  bound that `explain` prints     {one.bound:8.4f} s\n"
        f"  promises broken: {', '.join(one.broken) or 'none'}; services fenced: {one.fenced}"
    )


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fault", choices=[*FAULTS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found: list[dict[str, Any]] = []
    for name in FAULTS if options.fault == "all" else [options.fault]:
        with tempfile.TemporaryDirectory(prefix="lt-") as folder:
            outcome = measure(name, options.rounds, Path(folder))
        found.append(asdict(outcome))
        if not options.json:
            print(describe(outcome), flush=True)
    if options.json:
        print(json.dumps(found, indent=2))
    return int(any(one["broken"] for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
