"""Rules for names of labels, the same for folders, tables, Hugging Face and Python."""

import re
import unicodedata
from collections.abc import Collection, Iterable

from study.datasets.spec import display_name, some
from study.errors import DataError

MISSING = ("", "nan", "<na>", "nat")  # what pandas and NumPy write for nothing, whatever the case

PERHAPS_NONE = {
    *MISSING,
    *("na", "n/a", "n.a.", "#n/a", "#na", "null", "#null!", "none", "nil", "missing", "undefined", "unspecified", "not available"),
    *("?", "??", "???", "-", "--", "---", ".", "..", "...", "x?", "tbd", "todo", "#ref!", "#value!", "#name?", "#div/0!", "#num!"),
    *("unlabeled", "unlabelled", "unannotated", "not labeled", "not labelled", "no label"),
}
"""Texts that people, R and spreadsheets write for a missing value. Each may also be a class (no defect is "none")."""


def missing(text: str) -> bool:
    """Return True where a label's text means a missing label: no visible characters, or a library's word for it."""
    return as_read(text).lower() in MISSING


def as_read(name: str) -> str:
    """Return the name as a person reads it: composed, all blanks alike, invisible characters left out, escaped, cut to the shown
    length."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return display_name(" ".join(seen.split()))


def check_names(names: Iterable[str], where: str) -> None:
    """Raise DataError for two different names that read alike: a network of them would give one name two probabilities.

    Names that differ in case are two: letters are real classes, and the data doctor mentions them.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(as_read(name), name)
        if other != name:
            raise look_alike(other, name, where)


def doubts(names: Collection[str]) -> list[str]:
    """Return a warning about classes whose names say that they are none, or several of the others."""
    known = {as_read(name) for name in names}
    none = [name for name in names if as_read(name).lower() in PERHAPS_NONE or (name == "-1" and "0" in known)]
    parts = {n: list(filter(None, re.split(r"\s*[;,|/+&]\s*", as_read(n)))) for n in names}
    joined = [n for n in names if len(parts[n]) > 1 and known.issuperset(parts[n])]
    return [
        *([f"perhaps no class: {some(none, 5)} (empty means none)"] if none else []),
        *([f"perhaps several classes in one: {some(joined, 5)}"] if joined else []),
    ]


def look_alike(one: str, other: str, where: str) -> DataError:
    return DataError(f"{where}: the classes {one!a} and {other!a} look alike once they are shown. Rename one of them.")
