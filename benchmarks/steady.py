"""What leadertag asks of a backend, and costs, while nothing happens.

``python -m benchmarks.steady [--backend NAME] [--elections 1,100] [--minutes 1] [--json]`` in a
checkout. On real servers one process leads N elections and another one follows them; once
nothing changes any more, everything is counted for some time and told per minute:

- requests by kind, as the server counts them (Consul: as a relay before it sees them go by);
- what the backend has written, by whomever;
- connections and watches;
- CPU seconds and resident memory (PSS: a page that several processes share counts in parts) of
  the daemon, its guardian and its hooks' workers.

Each service is checked every second, by leadertag or by Consul's agent: that is in the CPU too.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, cpu_seconds, family, pss_bytes, threads
from benchmarks.steady_backends import BACKENDS, PLACES, Backend, Unavailable
from leadertag.daemon.control import ask
from leadertag.errors import BackendUnavailable
from tests.tools.addresses import lease_address
from tests.tools.leadertag import Daemon, to_toml
from tests.tools.processes import wait_until

LEASE = 5.0
QUIET, CALM = 3.0, 60.0
"""Seconds without a write after which the steady state has begun; and how long that is waited
for at most: who writes all the time is to be measured, not to be waited for."""
LOOKS, LOOK_AGAIN = 8, 0.03
"""How often watches are counted, and the seconds between: longer than one takes to go on."""
PATIENCE = 240.0
"""Seconds for anything that is waited for: a hundred elections take their time to begin."""


@dataclass(frozen=True)
class Place:
    """One process in the steady state. Rates are per minute, sizes bytes."""

    requests: Mapping[str, float]
    connections: int
    watches: int
    threads: int
    cpu_seconds: Mapping[str, float]
    pss: Mapping[str, int]


@dataclass(frozen=True)
class Steady:
    """One measurement. ``written`` counts, ``writes`` are the same per minute."""

    backend: str
    elections: int
    seconds: float
    written: Mapping[str, int]
    writes: Mapping[str, float]
    leader: Place
    follower: Place


@dataclass(frozen=True)
class _Sample:
    at: float
    requests: Mapping[str, Mapping[str, int]]
    cpu: Mapping[str, Mapping[str, float]]
    writes: Mapping[str, int]


class Trial:
    """A leading and a following process on a backend that runs; a context manager."""

    def __init__(self, backend: Backend, elections: int, folder: Path) -> None:
        self._backend, self._elections, self._folder = backend, elections, folder
        self._stack = ExitStack()
        self._daemons: dict[str, Daemon] = {}

    def __enter__(self) -> Trial:
        with self._stack as stack:
            address, port = stack.enter_context(_service())
            for place in PLACES:
                self._start(place, address, port)
            self._wait_until_quiet()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, seconds: float) -> Steady:
        """Count for so long."""
        families = {place: self._family(place) for place in PLACES}
        before = self._sample(families)
        wait_until(lambda: time.monotonic() >= before.at + seconds, seconds + 60, "time passes",
                   interval=min(0.2, seconds))  # fmt: skip
        after = self._sample(families)
        span = after.at - before.at
        written = {kind: after.writes[kind] - before.writes[kind] for kind in after.writes}
        leader, follower = (self._place(place, families[place], before, after) for place in PLACES)
        return Steady(
            self._backend.name, self._elections, span, written,
            {kind: count * 60 / span for kind, count in written.items()}, leader, follower,
        )  # fmt: skip

    # -- making it -----------------------------------------------------------------------

    def _start(self, place: str, address: str, port: int) -> None:
        folder = self._folder / place
        folder.mkdir(parents=True)
        names = [f"service-{n}" for n in range(self._elections)]
        self._backend.register(place, names, address, port)
        elections = {name: self._election(name, place, address, port) for name in names}
        config = folder / "leadertag.toml"
        config.write_text(to_toml({
            "backend": self._backend.name,
            "state_dir": str(folder / "state"),
            "backends": {self._backend.name: self._backend.table(place)},
            "elections": elections,
        }))  # fmt: skip
        daemon = self._daemons[place] = Daemon(config, name=place, env=self._backend.env)
        self._stack.callback(daemon.kill_all)
        daemon.start()
        leads = place == PLACES[0]
        wait_until(lambda: self._settled(place, "leader" if leads else "follower"), PATIENCE,
                   f"the {place} is settled in all elections", interval=0.2)  # fmt: skip

    def _election(self, name: str, place: str, address: str, port: int) -> dict[str, Any]:
        hook = {"use": "command", "command": ["true"], "events": ["promote", "demote", "follow"],
                "timeout": {"demote": "500ms"}}  # fmt: skip
        found: dict[str, Any] = {
            "service": name, "query": f"{name}-leader", "lease": f"{LEASE:g}s", "hooks": [hook],
        }  # fmt: skip
        if self._backend.self_registered:
            check = {"tcp": f"{address}:{port}", "interval": "1s"}
            found["instance"] = {
                "id": f"{name}-{place}", "address": address, "port": port, "check": check,
            }  # fmt: skip
        return found

    def _settled(self, place: str, role: str) -> bool:
        if not self._daemons[place].process.running:
            raise Unavailable(f"the {place} has ended: {self._daemons[place].log()[-500:]}")
        for path in (self._folder / place / "state").glob("*.sock"):
            with suppress(BackendUnavailable):
                said = ask(str(path), {"verb": "status"})["elections"]
                return len(said) == self._elections and all(
                    one["settled"] and one["role"] == role for one in said
                )
        return False

    def _wait_until_quiet(self) -> None:
        """Until nobody has written anything for some time, but what servers do by themselves."""
        since, last = time.monotonic(), self._backend.writes()
        over = since + CALM

        def quiet() -> bool:
            nonlocal since, last
            now = self._backend.writes()
            if now != last:
                since, last = time.monotonic(), now
            return time.monotonic() - since >= QUIET or time.monotonic() >= over

        wait_until(quiet, PATIENCE, "nothing is written any more", interval=0.2)

    # -- counting ------------------------------------------------------------------------

    def _family(self, place: str) -> tuple[Process, ...]:
        return family(self._daemons[place].process.pid)

    def _sample(self, families: Mapping[str, tuple[Process, ...]]) -> _Sample:
        requests = {p: self._backend.requests(p, families[p]) for p in PLACES}
        cpu = {p: cpu_seconds(families[p]) for p in PLACES}
        return _Sample(time.monotonic(), requests, cpu, self._backend.writes())

    def _place(
        self, place: str, processes: tuple[Process, ...], before: _Sample, after: _Sample
    ) -> Place:
        minutes = (after.at - before.at) / 60
        old, new = before.requests[place], after.requests[place]
        requests = {kind: (new[kind] - old.get(kind, 0)) / minutes for kind in sorted(new)}
        cpu = {
            kind: (used - before.cpu[place].get(kind, 0.0)) / minutes
            for kind, used in after.cpu[place].items()
        }
        return Place(
            {kind: rate for kind, rate in requests.items() if rate},
            self._backend.connections(place, processes),
            self._watches(place, processes),
            threads(processes[0].pid),
            cpu,
            pss_bytes(processes),
        )

    def _watches(self, place: str, processes: tuple[Process, ...]) -> int:
        """The most of some looks: a blocking read that was just answered is asked again."""
        most = 0
        for _ in range(LOOKS):
            most = max(most, self._backend.watches(place, processes))
            time.sleep(LOOK_AGAIN)
        return most


@contextmanager
def _service() -> Iterator[tuple[str, int]]:
    """Something that accepts connections, as all services of both processes: where it is."""
    with lease_address() as lease, socket.create_server((lease.address, 0), backlog=512) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=serve, name="service", daemon=True).start()
        yield server.getsockname()[:2]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def measure(name: str, elections: int, seconds: float) -> Steady:
    """Start servers and processes of one backend, measure, and end them all."""
    with (
        tempfile.TemporaryDirectory(prefix="lt-") as folder,
        BACKENDS[name](Path(folder)) as backend,
        Trial(backend, elections, Path(folder)) as trial,
    ):
        return trial.measure(seconds)


# -- telling ---------------------------------------------------------------------------------


def rows(found: Sequence[Steady]) -> Iterator[tuple[str, list[str]]]:
    """Return what stands in each line of a backend's table: a name, and a cell a measurement."""
    for kind in sorted({kind for one in found for kind in one.writes}):
        yield f"backend: {kind}", [f"{one.writes.get(kind, 0):.1f}" for one in found]
    for place in PLACES:
        said: list[Place] = [getattr(one, place) for one in found]
        yield f"{place}: requests in all", [f"{sum(p.requests.values()):.0f}" for p in said]
        for kind in sorted({kind for p in said for kind in p.requests}):
            yield f"{place}:   {kind}", [f"{p.requests.get(kind, 0):.0f}" for p in said]
        for what in ("connections", "watches", "threads"):
            yield f"{place}: {what}", [str(getattr(p, what)) for p in said]
        for kind in ("daemon", "guardian", "worker"):
            used = [p.cpu_seconds.get(kind, 0.0) for p in said]
            yield f"{place}: CPU s, {kind}", [f"{seconds:.2f}" for seconds in used]
        for kind in ("daemon", "guardian", "worker"):
            sizes = [p.pss.get(kind, 0) / 2**20 for p in said]
            yield f"{place}: PSS MiB, {kind}", [f"{size:.1f}" for size in sizes]


def table(found: Sequence[Steady]) -> str:
    """Return one backend's measurements side by side; all but sizes and numbers per minute."""
    columns = "".join(f"{f'N = {one.elections}':>12}" for one in found)
    lines = [f"{found[0].backend + ', a minute':<44}{columns}"]
    lines += [f"{name:<44}" + "".join(f"{c:>12}" for c in cells) for name, cells in rows(found)]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 when a backend could not be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", action="append", choices=sorted(BACKENDS), default=[])
    parser.add_argument("--elections", default="1,100", help="numbers, with commas")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    numbers = [int(word) for word in options.elections.split(",")]
    everything, status = [], 0
    for name in options.backend or sorted(BACKENDS):
        try:
            found = [measure(name, number, 60 * options.minutes) for number in numbers]
        except Unavailable as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        everything += found
        if not options.json:
            print(table(found), end="\n\n", flush=True)
    if options.json:
        print(json.dumps([asdict(one) for one in everything], indent=2))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
