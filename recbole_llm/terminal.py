"""Whether somebody looks at this process: bars and colours are for terminals alone."""

import sys


def shows_bars(show_progress: object) -> bool:
    """Return whether progress bars are drawn: in a terminal, unless ``show_progress`` is false.

    A pipe or a file gets lines alone.
    """
    return bool(show_progress) and sys.stderr.isatty()
