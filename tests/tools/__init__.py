"""Tooling for tests on real servers: binaries, addresses, processes, clusters."""
