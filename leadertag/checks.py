"""Health checks that leadertag runs itself, for registries that have none of their own."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable

from leadertag.config.settings import CheckSettings
from leadertag.hooks.processes import inherited
from leadertag.model import Health

Result = tuple[Health, str]


def checker(settings: CheckSettings | None) -> Callable[[], Result]:
    """Return the check to call; without one configured the service counts as passing."""
    if settings is None:
        return lambda: (Health.PASSING, "no check is configured")
    kinds = {"tcp": _tcp, "http": _http, "command": _command}
    check = kinds[settings.kind]
    return lambda: check(settings.target, settings.timeout)


def _tcp(target: tuple[str, ...], timeout: float) -> Result:
    host, _, port = target[0].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
    except OSError as error:
        return Health.CRITICAL, f"tcp {target[0]}: {error}"
    return Health.PASSING, f"tcp {target[0]}: connected"


def _http(target: tuple[str, ...], timeout: float) -> Result:
    # The scheme was checked with the configuration; the opener below knows no other.
    opener = urllib.request.build_opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler)
    try:
        with opener.open(target[0], timeout=timeout) as response:
            return Health.PASSING, f"http {target[0]}: {response.status}"
    except urllib.error.HTTPError as error:
        warning = error.code == 429  # too many requests: Consul's own convention
        return Health.WARNING if warning else Health.CRITICAL, f"http {target[0]}: {error.code}"
    except (OSError, ValueError) as error:
        return Health.CRITICAL, f"http {target[0]}: {error}"


def _command(target: tuple[str, ...], timeout: float) -> Result:
    try:
        done = subprocess.run(
            target, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", env=inherited(), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Health.CRITICAL, f"{target[0]}: no end within {timeout:g}s"
    except OSError as error:
        return Health.CRITICAL, f"{target[0]}: {error.strerror}"
    health = {0: Health.PASSING, 1: Health.WARNING}.get(done.returncode, Health.CRITICAL)
    return health, (done.stdout + done.stderr).strip()[-500:]
