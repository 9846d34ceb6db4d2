"""The scheduler acts and never decides: the only place with threads, clocks and waiting.

=========  ================================================================
clock      the one clock, injected
memory     the member's lock file, and what it remembers over a restart
perform    one effect of the machine, done with the providers and hooks
lanes      effects in order, election by election, on a few shared threads
keeper     the process's session, confirmations, heartbeat
sources    watches, probes and health checks, turned into events
loop       :class:`Scheduler`: events in, effects out
=========  ================================================================
"""

from leadertag.scheduler.clock import Clock, SystemClock
from leadertag.scheduler.loop import Scheduler

__all__ = ["Clock", "Scheduler", "SystemClock"]
