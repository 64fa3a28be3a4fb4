"""The exception for mistakes that the user can correct."""


class AxionError(Exception):
    """A mistake that the user can correct. The message is one line: what was wrong, and what would be right.

    Command lines print the message without a traceback and exit with code 2; the page and the API show it.
    """


def one_line(error: object, limit: int = 300) -> str:
    """An error's message on one line, cut after `limit` characters; its type's name where it has no message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
