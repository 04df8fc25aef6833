"""The Dagster resource: where alerts go."""

from typing import Any

import dagster as dg
from pydantic import Field

from resources.alerts.targets import Message, parse


class Alerts(dg.ConfigurableResource[Any]):
    """Tells people what is wrong: by a Slack-compatible webhook, an SNS topic or e-mail.

    Example:
        ```python
        alerts = Alerts(target=dg.EnvVar("PLATFORM_ALERTS"))
        alerts.send(Message("listings failed", "2026-01-05: the table has no rows"))
        ```
    """

    target: str = Field(
        default="",
        repr=False,
        description=(
            "A webhook's URL, an SNS topic's ARN or smtps://user:password@host/?from=…&to=…, from "
            "an EnvVar so that it stays secret. Empty: nobody is told."
        ),
    )

    @property
    def configured(self) -> bool:
        """Whether anybody is told."""
        return bool(self.target)

    def send(self, message: Message) -> None:
        """Deliver a message, within seconds or not at all.

        Raises:
            AlertMessageError: The target refuses this message for what it is.
            AlertTargetError: The target is not understood, or takes no messages from us.
            AlertUnavailableError: The target cannot be reached or is busy.
        """
        parse(self.target).send(Message(_encodable(message.subject), _encodable(message.text)))


def _encodable(text: str) -> str:
    """The text without the surrogates that stand for bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()
