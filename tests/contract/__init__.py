"""The contract suite, run for each backend."""
