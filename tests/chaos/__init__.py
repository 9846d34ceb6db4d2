"""Chaos on real servers: faults on purpose, everything recorded, every promise judged.

``python -m tests.chaos --minutes 20 --backend consul --seed 1 --report /tmp/chaos.html``
"""
