"""What every failure of an outside system has in common.

The kinds themselves stand beside their systems (`s3/errors.py`, …); what a run
does about them (retry or not) is decided where runs are defined.
"""

from typing import ClassVar


class ResourceError(Exception):
    """An outside system did not do what was asked of it.

    The message is one or two sentences: what happened, to what, and what to do. It never holds a
    secret.

    Attributes:
        transient: True where the same request may succeed later without anybody changing anything
            (a network fault, a busy server), False where somebody has to act first.
    """

    transient: ClassVar[bool] = False
