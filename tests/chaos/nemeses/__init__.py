"""All faults; importing the modules registers them."""

from tests.chaos.nemeses import host, network, planned, process, service
from tests.chaos.nemeses.base import ALL, CUT_OFF, RESTART, UNRESOLVED, Fault, Nemesis

__all__ = [
    "ALL",
    "CUT_OFF",
    "RESTART",
    "UNRESOLVED",
    "Fault",
    "Nemesis",
    "host",
    "network",
    "planned",
    "process",
    "service",
]
