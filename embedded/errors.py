"""The errors of the embedded stack; each message says what to do.

The command line prints the message and exits 1.
"""


class StackError(Exception):
    """The embedded stack cannot do what was asked for."""


class ConfigurationError(StackError):
    """The environment asks for something that does not fit together."""


class PortInUseError(StackError):
    """Another program listens on a port that the stack needs."""


class NoSpaceError(StackError):
    """The disk that holds PLATFORM_HOME is (nearly) full."""


class ServiceFailedError(StackError):
    """A program of the stack did not come up, or died."""


class BusyError(StackError):
    """Another `up` or `down` holds the lock and does not let go."""
