"""`python -m api`: the local server."""

import os

from api.local import main
from formats.proxies import proxy_variables

# The endpoint may be on this machine too.
os.environ.update(proxy_variables(os.environ))
main()
