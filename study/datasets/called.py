"""What a label may be called: one rule for folders, tables, Hugging Face and Python."""

import unicodedata
from collections.abc import Iterable

from study.datasets.spec import display_name
from study.errors import DataError

MISSING = ("", "nan", "<na>", "nat")  # what pandas and NumPy write for nothing, whatever the case


def missing(text: str) -> bool:
    """Whether a label's text says that there is none: nothing to see, or what a library writes for it."""
    return as_read(text).lower() in MISSING


def as_read(name: str) -> str:
    """The name as a person reads it: composed, blanks of every kind alike, what takes no room left out, escaped and cut as it is shown."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return display_name(" ".join(seen.split()))


def check_names(names: Iterable[str], where: str) -> None:
    """Raises DataError for two different names that are read alike: a network of them would give one name two probabilities.

    Names that differ in case are two: letters are real classes; the data doctor mentions them."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(as_read(name), name)
        if other != name:
            raise look_alike(other, name, where)


def look_alike(one: str, other: str, where: str) -> DataError:
    return DataError(f"{where}: the classes {one!a} and {other!a} look alike once they are shown; rename one of them.")
