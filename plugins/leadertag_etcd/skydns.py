"""SkyDNS records: what CoreDNS's plugin ``etcd`` answers A, AAAA, SRV and TXT questions from.

An instance that passes has a record for each of its tags, ``TAG.SERVICE.ZONE``; so the leader
answers under the leader tag and the followers under theirs. Records are nothing but a part of
a registration: whatever writes the one writes the other in the same transaction, under the
same comparisons. They hang on the lease that the instance's passing hangs on: its own, or,
while it carries a gate, the heartbeat of the process that feeds it.

The value is CoreDNS's message (``plugin/etcd/msg/service.go``): host, port, ttl, text. The name
is the key, label by label from the zone's end, with one more label for each instance.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leadertag.errors import LeaseLost
from leadertag.kit.registration import Registration
from leadertag.model import Health
from leadertag_etcd.client import delete, put
from leadertag_etcd.settings import LABEL, SkyDnsSettings


@dataclass(frozen=True, slots=True)
class Shown:
    """An instance as it stands, or is to stand, and the lease of its key."""

    registration: Registration
    lease: int


class SkyDns:
    """Makes the operations by which records follow a registration. Does no I/O."""

    def __init__(self, settings: SkyDnsSettings | None, process: str) -> None:
        """Without settings there are no records. ``process`` is whose heartbeat is ours."""
        self._settings = settings
        self._process = process
        self.beat: Callable[[], int] = _no_heartbeat
        """Returns the heartbeat's lease; LeaseLost for none: a record must not outlive it."""

    @property
    def wanted(self) -> bool:
        """Whether there are records at all."""
        return self._settings is not None

    def follow(self, before: Shown | None, after: Shown | None) -> list[Any]:
        """Return the operations to add to the one that makes ``before`` to ``after``."""
        old, new = self._records(before), self._records(after)
        operations = [delete(key) for key in sorted(old.keys() - new.keys())]
        if after is None or not new:
            return operations
        moved = before is None or _hangs_on(before) != _hangs_on(after)
        changed = sorted(key for key in new if moved or old.get(key) != new[key])
        return operations + [put(key, new[key], lease=self._lease(after)) for key in changed]

    def again(self, shown: Shown) -> list[Any]:
        """Return the operations that write the records of an instance whose gate opens anew."""
        records = self._records(shown) if _hangs_on(shown) == self._process else {}
        return [put(key, value, lease=self._lease(shown)) for key, value in sorted(records.items())]

    def _lease(self, shown: Shown) -> int:
        return self.beat() if shown.registration.gates else shown.lease

    def _records(self, shown: Shown | None) -> Mapping[str, bytes]:
        """Return key to value of every record that an instance has while its processes live."""
        settings = self._settings
        if settings is None or shown is None or not _passes(shown.registration):
            return {}
        one = shown.registration
        value = json.dumps({
            "host": one.address, "port": one.port, "ttl": settings.ttl,
            "text": f"{one.node}/{one.id}",
        }).encode()  # fmt: skip
        labels = settings.zone.split(".")[::-1]
        if not LABEL.fullmatch(one.service):
            return {}
        above = "/".join([settings.prefix, *labels, one.service])
        tags = [tag for tag in one.tags if LABEL.fullmatch(tag)]
        return {f"{above}/{tag}/{_label(one)}": value for tag in tags}


def _no_heartbeat() -> int:
    raise LeaseLost("heartbeat: no etcd lease is open")


def _passes(one: Registration) -> bool:
    """Whether it passes as far as it stands in it: the gates' owners may have died."""
    opened = all(gate.opened and not gate.shut for gate in one.gates)
    return one.health is Health.PASSING and opened


def _hangs_on(shown: Shown) -> str:
    """Return what the records' lease is of: the process that feeds the gates, or the instance."""
    owners = sorted({gate.owner for gate in shown.registration.gates})
    return ",".join(owners) or f"lease {shown.lease}"


def _label(one: Registration) -> str:
    """Return a DNS label for an instance: no other one has it, and it can be read."""
    member = f"{one.node}/{one.id}"
    readable = re.sub(r"[^a-z0-9]+", "-", member.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(member.encode()).hexdigest()[:8]}".lstrip("-")
