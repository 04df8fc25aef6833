"""How fast, and how large, compared with what users would do otherwise.

A module here with a `BENCHMARK` is one benchmark; `make bench` runs all of them and `make bench
NAME=…` one, each in several rounds, and prints one line of JSON for each: times in seconds, peaks
in MB, and `ratio`, how many times faster we are than the reference, which the line names. What is
timed stands in `sides/`, one script a side, since each side runs in a process, and where need be in
an environment, of its own; the harness compares what the sides made, and a benchmark whose sides
did not do the same work fails. `services/` starts S3, Postgres and SageMaker for those that need
them. No figure is promised here and none is a test: run it where you want to know.
"""
