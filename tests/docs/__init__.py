"""The documentation is run: its samples, its commands, its claims about the code."""
