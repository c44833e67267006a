"""Text for people: safe for a terminal and a spreadsheet, without secrets, in the words that all commands use."""

import re
import sys
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import unquote

from study.errors import StudyError

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\0")
T = TypeVar("T")


PASSWORD = re.compile(r"(://[^/\s:@]*):(?!\d+(?:[/?#\s]|$))([^\s'\"]+)@")
"""A password in a URL, up to the last @ of the word: it may hold a slash or an @ itself. A port is none."""
TOKEN = re.compile(r"(://)([^/\s:@]+)@(?=[^/\s]*(?:[/?#\s]|$))")
"""A name in a URL that has no password beside it: it may be a token."""
QUERY = re.compile(r"([?&][^=&\s]*(?:token|key|secret|passw|signature|credential)[^=&\s]*=)([^&\s#'\"]+)", re.IGNORECASE)
LEAST_SECRET = 3  # characters; shorter ones would be found in every second word


def redact(text: str, *urls: str) -> str:
    """Remove secrets of URLs, which must never reach a log, a ledger or a server: ://user:secret@ -> ://user:***@, ?token=secret ->
    ?token=***.

    `urls`: addresses whose secrets are removed wherever they stand, as in what a library says of a part of the address.
    """
    for secret in sorted((s for url in urls for s in _secrets(url)), key=len, reverse=True):
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1***", TOKEN.sub(r"\1***@", PASSWORD.sub(r"\1:***@", text)))


def _secrets(url: str) -> list[str]:
    found = [m[2] for pattern in (PASSWORD, QUERY) for m in pattern.finditer(url)]
    return [s for one in found for s in {one, unquote(one)} if len(s) >= LEAST_SECRET and s != "***"]


def shown(text: str) -> str:
    """Return the text on one line and harmless to a terminal: characters that are not printable become escapes."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def utf8(text: str) -> str:
    """Return the text with lone surrogates as escapes: so Python keeps bytes of a name that are not UTF-8."""
    return "".join(_escape(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _escape(c: str) -> str:
    """Return a character's escape; that of a byte which is not UTF-8 is the byte's."""
    return f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c.encode("unicode_escape", "surrogatepass").decode()


def harmless(value: T) -> T:
    """Return text with a leading apostrophe where a spreadsheet would take it for a formula (CWE-1236); numbers are unchanged."""
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return "'" + value  # type: ignore[return-value]  # still a text
    return value


def markdown(text: str) -> str:
    """On one line, shown as it is and never as markup: names are strangers' texts."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def brief(value: object) -> str:
    """Return the value as Python writes it, in 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def tell(error: StudyError) -> int:
    """Print on stderr, in one line without secrets or escapes, the error that ended a command; return its exit code."""
    print(f"error: {shown(redact(str(error)))}", file=sys.stderr)
    return error.exit_code


def span(seconds: float) -> str:
    """Return a duration: 48 s, 7 min, 2.3 h."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def joined(names: Sequence[str]) -> str:
    """Return names in a sentence: "partial, full and lora"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
