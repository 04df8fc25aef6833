"""The kinds of failure of a target of alerts. No message holds any part of the target's address."""

from resources.errors import ResourceError


class AlertError(ResourceError):
    """A message could not be delivered."""


class AlertTargetError(AlertError):
    """The target is not understood, or refuses the message as it is."""


class AlertUnavailableError(AlertError):
    """The target cannot be reached, is overloaded, or broke off."""

    transient = True
