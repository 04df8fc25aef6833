"""Snapshots of database tables, whatever of: how days are exported, judged and published.

Which table, and what readers rely on, says whoever makes an asset of it: `airbnb/listings.py`, or
the component `PostgresSnapshot`.
"""
