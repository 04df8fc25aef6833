"""`python -m embedded COMMAND`."""

import os

from embedded.cli import app
from formats.proxies import proxy_variables

# All that is asked or started here is on this machine, and inherits this.
os.environ.update(proxy_variables(os.environ))
app()
