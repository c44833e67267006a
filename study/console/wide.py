"""The width of a table: that of the terminal, or one that a table can be read in where there is none."""

from typing import Any

from rich.console import Console

NARROWEST = 40  # columns; less is a variable that was set by mistake, or a terminal that does not know its size


def make_console(least: int, **options: Any) -> Console:
    """Return a console as wide as the terminal; for a pipe or a job's log one of at least `least` columns."""
    found = Console(**options)
    return found if found.is_terminal and found.width >= NARROWEST else Console(width=max(found.width, least), **options)
