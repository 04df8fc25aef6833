"""How fast, and how large, compared with what users would do otherwise.

A module here with a `BENCHMARK` is one benchmark; `python -m benchmarks [NAME …]` runs them from
the checkout and prints one line of JSON for each. What is timed stands in `sides/`, one script a
side, since each side runs in a process, and where need be in an environment, of its own.
"""
