"""What every error of a format has in common."""


class FormatError(ValueError):
    """Bytes or text are not what their format asks for.

    The message is one or two sentences for whoever runs the platform: what is wrong, and where. It
    never holds a secret.
    """
