"""What counts as a problem that people are told of: how late, how long, how expensive.

What is looked at is in `monitoring/`; the platform's values are in `settings.py`, and win over the
defaults here.
"""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field


class AlertSettings(dg.ConfigurableResource[Any]):
    """From where on something is worth a message."""

    ui_url: str = Field(
        default="http://127.0.0.1:3000", description="Where people find Dagster's UI: for links."
    )
    late_after_hours: float = Field(
        default=6, ge=0, description="Hours after a day's end (UTC) at which it has to be there."
    )
    stuck_after_minutes: float = Field(
        default=180, gt=0, description="How long a run may wait in the queue, or work."
    )
    spend_limit: float = Field(
        default=0, ge=0, description="Estimated spend of a calendar month; 0 for no limit."
    )
    days: int = Field(
        default=7,
        ge=1,
        description="How long failed runs and missing dates are followed, so that a look costs the "
        "same however long the history is.",
    )

    def since(self, now: datetime) -> datetime:
        """What is older than this is not looked at any more."""
        return now - timedelta(days=self.days)

    def link(self, path: str) -> str:
        """A page of Dagster's UI."""
        return f"{self.ui_url.rstrip('/')}/{path}"
