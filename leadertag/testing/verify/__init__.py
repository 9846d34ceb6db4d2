"""The contracts, run against an installed plugin and a live backend.

``leadertag plugins verify NAME`` is the way in. The harness is the plugin's own, or else
:class:`leadertag.testing.verify.plain.PlainHarness`, which knows no backend, only the providers'
verbs. The tests run in a process of their own (``python -m leadertag.testing.verify``), so that
whatever the plugin does to it - hang, exit, crash - is one failed test.
"""
