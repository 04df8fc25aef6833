"""What every failure of an outside system has in common: it says whether it is `transient`.

The kinds of failure stand beside their systems (`s3/errors.py`, …); what a run does about them
(retry or not) is decided where runs are defined.
"""


class ResourceError(Exception):
    """An outside system did not do what was asked of it.

    The message is one or two sentences: what happened, to what, and what to do. It never holds a
    secret.

    Args:
        transient: Where it differs from what the class says.

    Attributes:
        transient: True where the same request may succeed later without anybody changing anything
            (a network fault, a busy server), False where somebody has to act first.
    """

    transient: bool = False

    def __init__(self, message: str, *, transient: bool | None = None) -> None:
        super().__init__(message)
        if transient is not None:
            self.transient = transient
