"""Alerts: a message to whoever looks after the platform, by webhook, SNS or e-mail."""

from resources.alerts.errors import (
    AlertError,
    AlertMessageError,
    AlertTargetError,
    AlertUnavailableError,
)
from resources.alerts.resource import Alerts
from resources.alerts.targets import Message

__all__ = [
    "AlertError",
    "AlertMessageError",
    "AlertTargetError",
    "AlertUnavailableError",
    "Alerts",
    "Message",
]
