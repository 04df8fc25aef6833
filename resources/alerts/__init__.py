"""Alerts: a message to whoever looks after the platform, by webhook, SNS or e-mail."""

from resources.alerts.errors import AlertError, AlertTargetError, AlertUnavailableError
from resources.alerts.resource import Alerts
from resources.alerts.targets import Message

__all__ = ["AlertError", "AlertTargetError", "AlertUnavailableError", "Alerts", "Message"]
