"""The errors of the number cruncher. `transient` says whether a retry may help."""


class CruncherError(Exception):
    """A failure whose message is one sentence that says what to do.

    Attributes:
        transient: True where the same request may succeed later without anybody doing anything.
    """

    transient = False


class RequestError(CruncherError):
    """The request is incomplete or contradicts itself."""


class StoreError(CruncherError):
    """The object store refused or failed a request."""


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
    """There is no snapshot of a requested date."""


class SnapshotInvalidError(CruncherError):
    """A snapshot is not what its manifest promises, or cannot be crunched."""
