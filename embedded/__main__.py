"""`python -m embedded COMMAND`."""

from embedded.cli import app

app()
