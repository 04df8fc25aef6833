"""Numbers of the platform for Prometheus: a process of its own that only reads."""
