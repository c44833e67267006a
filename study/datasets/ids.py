"""Names of class ids from a file beside a table. They are used only where ids in the file, or a count from 0, prove that they fit."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from study.console.text import shown
from study.datasets.spec import some
from study.datasets.tables import read_text
from study.errors import DataError

IDS = ("id", "class_id", "label_id", "category_id", "label", "class", "index", "idx", "number", "code")
WORDS = ("name", "class_name", "label_name", "category_name", "names", "species", "class", "label", "category")
BETWEEN = r"(?:\s*[.:)=\t]+\s*|\s+-\s+|\s+->\s+|\s+)"  # an id and a name on one line
MAY_NAME = {
    "class",
    "classes",
    "names",
    "label",
    "labels",
    "categories",
    "species",
    "classnames",
    "idx",
    "mapping",
    "obj",
}  # words in a file's name
HEADERS = {*IDS, *WORDS, "classes", "labels", "categories"}


def as_id(text: str) -> str:
    """Return the text of a class id: "1.0", "+1" and "01" are 1."""
    found = re.fullmatch(r"\+?0*(\d{1,9})(\.0*)?", text.strip(), re.ASCII)
    return found[1] if found else text.strip()


def check_ids(labels: Iterable[str], where: str) -> None:
    """Raise DataError where two labels are one number."""
    first: dict[str, str] = {}
    for label in sorted(labels):
        other = first.setdefault(as_id(label), label)
        if other != label:
            raise DataError(f"{where}: the classes {other!a} and {label!a} are one number. Write it in one way.")


def names_in(file: Path, labels: set[str]) -> dict[str, str]:
    """Return the name of each label; none where the labels are names in the file. Raises DataError for names that do not fit."""
    text = read_text(file)[0].rstrip()
    lines, rows = _of_json(file, text) if file.suffix.lower() == ".json" else (text.splitlines(), [])
    rows = rows or _rows(lines, table=file.suffix.lower() not in (".txt", ".json"), wanted={as_id(label) for label in labels})
    by_id = _by_id(file, rows, labels) if rows else _by_position(file, lines, labels)
    if by_id is None:
        return {}
    if unnamed := sorted(label for label in labels if as_id(label) not in by_id):
        if labels <= set(by_id.values()):
            return {}
        raise DataError(
            f"{file}: no name of class {shown(some(unnamed))}. Add a line for each, or remove the file if it names something else."
        )
    return {label: by_id[as_id(label)] for label in labels}


def _of_json(file: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """Return (names in order, []) of a list of names, ([], ids and names) of an object that maps one to the other. Raises DataError."""
    try:
        known = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{file} is not JSON ({str(error)[:80]}). Write it as {{"0": "ash", "1": "oak"}}.') from None
    if isinstance(known, list) and all(isinstance(name, str) for name in known):
        return known, []
    if isinstance(known, dict) and known and all(isinstance(value, str | int) for value in known.values()):
        return [], [[str(key), str(value)] for key, value in known.items()]
    raise DataError(f'{file} holds neither a list of names nor ids with a name each. Write it as {{"0": "ash", "1": "oak"}}.')


def _rows(lines: Sequence[str], table: bool, wanted: set[str]) -> list[list[str]]:
    """Return fields of lines that hold an id and a name each, in either order; none for a list of names alone."""
    full = [line for line in lines if line.strip()]
    by = next((d for d in ",;\t|" if full and d in full[0]), "")
    if by:
        rows = [[f.strip() for f in fields] for fields in csv.reader(full, delimiter=by)]
        if table or all(len(row) > 1 for row in rows):
            return [row for row in rows if len(row) > 1]
    numbered = [re.fullmatch(rf"\s*(\d+){BETWEEN}(\S.*)", line, re.ASCII) for line in full]
    if full and all(numbered):
        return [[m[1], m[2].strip()] for m in numbered if m]
    named = [re.fullmatch(rf"(\S.*?){BETWEEN}(\d+)\s*", line, re.ASCII) for line in full]
    rows = [[m[2], m[1].strip()] for m in named if m]
    apart = all(count == 1 for count in Counter(name for _, name in rows).values())  # "type 0", "type 1" are names
    return rows if full and all(named) and apart and wanted <= {as_id(number) for number, _ in rows} else []


def _by_id(file: Path, rows: list[list[str]], labels: set[str]) -> dict[str, str] | None:
    """Return names by the column that holds the labels; None where that is the column of names."""
    header = [h.lower() for h in rows[0]]
    width = min(map(len, rows))
    wanted = {as_id(label) for label in labels}
    values = [{as_id(row[k]) for row in rows} for k in range(width)]
    at = next((header.index(n) for n in IDS if n in header[:width] and wanted <= values[header.index(n)]), None)
    if at is None and any(n in header[:width] and labels <= {row[header.index(n)] for row in rows} for n in WORDS):
        return None
    at = next((k for k in range(width) if wanted <= values[k]), None) if at is None else at
    if at is None:
        at = next((header.index(n) for n in IDS if n in header[:width]), 0)  # what it lacks is said by who asks
    word = next((header.index(n) for n in WORDS if n in header[:width] and header.index(n) != at), None)
    if word is None and width != 2:
        raise DataError(f"{file}: which column is the name of a class? It has {shown(', '.join(rows[0])[:200])}. Call one of them name.")
    word = 1 - at if word is None else word
    if not any(label.isdigit() for label in wanted) and all(row[word].isdigit() for row in rows):
        return None  # the labels are the names
    out: dict[str, str] = {}
    for row in rows:
        if row[word] and out.setdefault(as_id(row[at]), row[word]) != row[word]:
            raise DataError(f"{file}: class {row[at][:40]} is called {row[word][:40]!r} and {out[as_id(row[at])][:40]!r}. Keep one name.")
    return out


def _by_position(file: Path, lines: Sequence[str], labels: set[str]) -> dict[str, str] | None:
    """Return names by a count from 0, which requires a label 0; None where the file lists the labels themselves as names."""
    names = [line.strip() for line in lines]
    if labels <= set(names):
        return None
    ids = [as_id(label) for label in labels]
    if not all(i.isdigit() for i in ids):
        raise DataError(
            f"{file}: lists none of {shown(some(sorted(labels - set(names)), 3))}. Write an id and a name a line, or remove the file."
        )
    why = ""
    if "" in names:
        why = f"line {names.index('') + 1} is empty"
    elif names and (names[0].lower() in HEADERS or names[0].startswith("#")):
        why = f"its first line, {names[0][:40]!r}, is no class"
    elif "0" not in ids:
        why = f"no label is 0: they go from {min(map(int, ids))} to {max(map(int, ids))}"
    if why:
        raise DataError(
            f"{file}: {why}, so that nothing says which line is which id. Write each line as an id and its name (0 {names[0] or 'oak'})."
        )
    return {str(k): name for k, name in enumerate(names)}


def unread_names(table: Path, labels: set[str], read: Sequence[str]) -> list[str]:
    """Return a hint, where all labels are numbers, at files beside the table, other than those `read`, that may have their names."""
    if not all(label.isascii() and label.isdigit() for label in labels):
        return []
    likely = [
        f.name
        for f in sorted(table.parent.iterdir())
        if f.suffix.lower() in (".txt", ".csv", ".json", ".names")
        and MAY_NAME & set(re.split(r"[^a-z]+|2", f.stem.lower()))
        and f.name not in (table.name, "labels.csv", *read)
        and f.is_file()
    ]
    return [f"classes have no names; {some(likely, 3)} not read (?names=FILE)"] if likely else []
