"""The one exception that stands for a user's mistake."""


class AxionError(Exception):
    """A mistake that the user can mend; its message is the one line that the user sees.

    The message says what was wrong and what would be right. Command lines print it and exit with 2, the page and the
    API show it; no traceback goes with it.
    """
