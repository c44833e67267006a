"""A framed text at the end of a command: with colours in a terminal that has them, plain lines elsewhere."""

import sys
from collections.abc import Sequence

from study.console.text import shown

COLOURS = {"decided": "green", "good enough": "blue", "not decided": "yellow", "cut short": "yellow", "in progress": "yellow"}
COLUMNS = 80


def print_panel(title: str, lines: Sequence[str], command: str = "", mark: str = "") -> None:
    """Print a title over lines of 76 columns at most, and below them a command as one line, to be copied. `mark` gives the colour."""
    text = [shown(line) for line in lines]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        frame = Panel(Text("\n".join(text)), title=Text(shown(title)), title_align="left", border_style=COLOURS.get(mark, "white"))
        Console(width=COLUMNS, highlight=False).print(frame)
    else:
        print(f"== {shown(title)} ==")
        print("\n".join(f"  {line}" for line in text))
    if command:
        print(f"  {shown(command)}")
