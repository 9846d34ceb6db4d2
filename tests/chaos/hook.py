"""The recording command hook: writes down that it ran, and how it found the service.

``hook.py SETTINGS first|last|inform``, run by leadertag and its guardian. It is started
without site-packages, for speed, and imports nothing of the project. SETTINGS is JSON:
where to write (``evidence``), what to obey (``control``: event to seconds that it takes), the
service (``host``, ``port``, ``pidfile``) and the file that only one hook may lock (``lock``).

As hook for ``fence`` it kills the service. After ``demote`` it asks the service itself.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time

_ASK = b"*1\r\n$4\r\nROLE\r\n"
_PATIENCE = 0.15
"""Seconds for the service's answer: the hook has to fit its limit."""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def started_at() -> float:
    """When this process was made, on the same clock: its own start takes time as well."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def takes(control: str, event: str) -> float:
    """How long the run is told to take for that event."""
    try:
        with open(control) as file:
            return float(json.load(file).get(event, 0.0))
    except (OSError, ValueError):
        return 0.0


def role(host: str, port: int) -> str:
    """What the service says it is; "gone" where nobody listens, "silent" without an answer."""
    try:
        with socket.create_connection((host, port), _PATIENCE) as link:
            link.settimeout(_PATIENCE)
            link.sendall(_ASK)
            lines = link.recv(4096).split(b"\r\n")
            return lines[2].decode() if len(lines) > 2 else "silent"
    except ConnectionRefusedError:
        return "gone"
    except OSError:
        return "silent"


def kill(pidfile: str) -> str:
    """End the service for good; "gone" once it has ended."""
    try:
        with open(pidfile) as file:
            descriptor = os.pidfd_open(int(file.read()))
    except (OSError, ValueError):
        return "gone"
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return "gone"
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return "gone" if poller.poll(1000) else "silent"


def alone(path: str) -> bool:
    """Take the file that one hook at a time may have: the kernel frees it with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> int:
    began = started_at()
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    place, event = sys.argv[2], os.environ["LEADERTAG_EVENT"]
    line = {
        "kind": "hook",
        "node": settings["node"],
        "place": place,
        "event": event,
        "term": int(os.environ["LEADERTAG_TERM"]),
        "leader": os.environ["LEADERTAG_LEADER_ADDRESS"],
        "reason": os.environ["LEADERTAG_REASON"],
        "pid": os.getpid(),
    }
    out = os.open(settings["evidence"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(**more: object) -> None:
        os.write(out, json.dumps({"t": now(), **line, **more}).encode() + b"\n")

    tell(what="start", alone=place == "inform" or alone(settings["lock"]))
    rest = began + takes(settings["control"], event) - now()
    if rest > 0:
        time.sleep(rest)
    found = ""
    if event == "fence":
        found = kill(settings["pidfile"])
    elif event == "demote":
        found = role(settings["host"], settings["port"])
    failed = found in ("master", "silent")
    tell(what="end", took=now() - began, found=found, ok=not failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
