"""Dagster's web server, which answers no web page but its own; nothing else of Dagster is changed.

Dagster's own takes mutations by GET, and looks at neither `Host` nor `Origin`: any page that its
user's browser shows could start runs.
"""
