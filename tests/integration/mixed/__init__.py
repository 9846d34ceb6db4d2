"""Elections whose lock, registry and query are of different backends, on real servers."""
