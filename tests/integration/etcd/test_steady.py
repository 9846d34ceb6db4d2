"""While nothing happens: no writes, and a cost that does not grow with the elections.

It counts, on every backend, by what :mod:`benchmarks.steady` measures with; how long anything
takes is not looked at.
"""

from __future__ import annotations

import pytest

from benchmarks.steady import Place, Steady, measure
from benchmarks.steady_backends import BACKENDS, Unavailable
from tests.conftest import need, on_ci

SECONDS = 5.0
MANY = 8
EDGE = 3
"""Requests by which two spans of the same length may differ, beginning and ending anywhere."""


def measured(backend: str, elections: int) -> Steady:
    """A measurement; skips, or on CI fails, where the backend cannot be had."""
    try:
        return measure(backend, elections, SECONDS)
    except Unavailable as error:
        if on_ci():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def requests(one: Steady, place: Place) -> float:
    """How many there were in the span, of all kinds."""
    return sum(place.requests.values()) * one.seconds / 60


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_the_steady_state(name: str) -> None:
    backend = BACKENDS[name]
    need(*backend.programs)
    one, many = measured(name, 1), measured(name, MANY)
    for found in (one, many):
        assert all(count <= backend.own_writes for count in found.written.values()), found
    for few, more in ((one.leader, many.leader), (one.follower, many.follower)):
        assert few.watches == more.watches > 0
        assert few.connections > 0
        if backend.same_connections:
            assert few.connections == more.connections
        assert more.connections <= backend.most_connections(MANY)
        if backend.batched:
            assert 0 < requests(many, more) < 2 * requests(one, few) + EDGE
