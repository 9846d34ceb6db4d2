"""The built-in hooks, each an ordinary plugin, and what runs hooks."""
