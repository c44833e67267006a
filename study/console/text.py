"""Text for people: safe for a terminal and a spreadsheet, without secrets, in the words that all commands use."""

import re
import sys
from collections.abc import Sequence
from typing import TypeVar

from study.errors import StudyError

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\0")
T = TypeVar("T")


def redact(text: str) -> str:
    """Passwords in URLs never reach a log, a ledger or a server: ://user:secret@ -> ://user:***@."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:***@", text)


def shown(text: str) -> str:
    """On one line and harmless to a terminal: what is no printable character stands there as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def harmless(value: T) -> T:
    """Text that a spreadsheet would take for a formula gets a leading apostrophe (CWE-1236); numbers are left alone."""
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return "'" + value  # type: ignore[return-value]  # still a text
    return value


def tell(error: StudyError) -> int:
    """Says on stderr, in one line without secrets or escapes, what ended a command; its exit code."""
    print(f"error: {shown(redact(str(error)))}", file=sys.stderr)
    return error.exit_code


def span(seconds: float) -> str:
    """48 s, 7 min, 2.3 h."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def joined(names: Sequence[str]) -> str:
    """ "partial, full and lora"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
