"""What is wrong at the moment, from Dagster's records and a look at the endpoint.

A look gives findings (`findings.py`), one module for each kind of problem; `reported.py` compares
them with what was reported before. When it is looked, stands in `jobs/alerts.py`; numbers for
Prometheus are given by `metrics`.
"""
