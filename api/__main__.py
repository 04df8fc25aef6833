"""`python -m api`: the local server."""

from api.local import main

main()
