"""What is wrong at the moment, from Dagster's records and a look at the endpoint.

Everything here is computed anew at each look; nothing is kept but what was told (`told.py`). When
it is looked, stands in `jobs/alerts.py`; numbers for Prometheus are given by `metrics`.
"""
