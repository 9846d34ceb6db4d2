"""The exit codes of all verbs.

A Consul script check reads them as passing, warning and critical.
"""

OK = 0
"""Settled; done; found."""
UNSETTLED = 1
"""Not settled, in doubt, nothing found, or the backend is in trouble."""
FAILING = 2
"""Failing: still acting though it must not; or wrong usage, configuration, plugin."""
INTERRUPTED = 130
"""Ended by SIGINT, as a shell reports it."""
