"""What counts as a problem that people are told of: how late, how long, how expensive.

What is looked at is in `monitoring/`; the values, with their defaults, are in `settings.py`.
"""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

# How long failed runs and missing dates are followed: a look costs the same however long the
# history is.
FOLLOWED = timedelta(days=7)


class AlertSettings(dg.ConfigurableResource[Any]):
    """From where on something is worth a message."""

    ui_url: str = Field(description="Where people find Dagster's UI: for links.")
    late_after_hours: float = Field(description="Hours that a day may take from its schedule on.")
    stuck_after_minutes: float = Field(description="How long a run may wait, or work.")
    spend_limit: float = Field(description="Of the digits in a month, estimated; 0 for no limit.")

    def since(self, now: datetime) -> datetime:
        """What is older than this is not looked at any more."""
        return now - FOLLOWED

    def link(self, path: str) -> str:
        """A page of Dagster's UI."""
        return f"{self.ui_url.rstrip('/')}/{path}"
