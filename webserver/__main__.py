"""`python -m webserver …`: `dagster-webserver` with the same arguments, behind the guard."""

from dagster_webserver.cli import main

from webserver.guard import guard_webserver

guard_webserver()
main()
