"""What can go wrong while numbers are crunched, by what it means for the other dates."""


class CruncherError(Exception):
    """A failure whose message is one sentence that says what to do.

    Attributes:
        transient: True where the same request may succeed later without anybody doing anything.
    """

    transient = False


class RequestError(CruncherError):
    """What was asked for makes no sense."""


class StoreError(CruncherError):
    """The object store did not do what was asked, for reasons that lie in nobody's data."""


class StoreUnavailableError(StoreError):
    """The object store cannot be reached, is overloaded, or broke off."""

    transient = True


class ConcurrentRunError(StoreError):
    """Another run publishes the same date at the same time."""

    transient = True


class SnapshotChangedError(StoreError):
    """A snapshot was replaced while it was being used."""

    transient = True


class MissingObjectError(CruncherError):
    """There is no object under the key."""


class SnapshotMissingError(CruncherError):
    """The snapshot of a date that was asked for is not there."""


class SnapshotInvalidError(CruncherError):
    """A snapshot is not what its manifest promises, or not what can be crunched."""
