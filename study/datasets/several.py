"""Tables in which a picture has several labels: a column of labels joined by a separator, or a column of 0 and 1 for each label.

`?labels=tags` names the first form, `?labels=crack,rust,dent` the second. Either becomes one column of lists as JSON text, in the place
where other tables have a label. `parsed` reads it back.
"""

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.console.text import shown
from study.datasets.called import check_names, missing
from study.datasets.shapes import BITS
from study.datasets.spec import display_name, some
from study.errors import ConfigError, DataError, nearest
from study.question.name_parts import listed

Row = tuple[str, dict[str, str]]
JOINED = "labels of each image"
"""The column that the labels are joined in."""
SURE, UNSURE = ("|", ";"), ","
"""Separators that no label's name holds, and one that a name may hold."""
FEWEST = 5  # images of a label, to be split


def join_labels(header: Sequence[str], rows: Sequence[Row], asked: str, path: Path) -> tuple[list[Row], list[str], str]:
    """Return (the rows with their labels in JOINED, names of labels in their order or none, what is to be said of it).

    Raises ConfigError for a column that is not there, DataError for cells of another form.
    """
    columns = listed(asked)
    if absent := [c for c in columns if c not in header]:
        raise ConfigError(f"{path}: the table has no column {absent[0]!r}. Name one of {nearest(absent[0], list(header))}.")
    if len(columns) == 1:
        separator = _separator(rows, columns[0], path)
        cells = [_cell(row.get(columns[0], ""), separator) for _, row in rows]
        if all(set(cell) <= {"0", "1"} for cell in cells) and any(cells):
            raise DataError(f"{path}: the column {columns[0]} holds 0 and 1. Name every such column: labels={columns[0]},OTHER.")
        return _joined(rows, cells), [], f"labels {columns[0]}" + (f", joined by {separator}" if separator else "")
    cells = [[c for c in columns if _bit(row.get(c, ""), c, where)] for where, row in rows]
    return _joined(rows, cells), columns, f"labels {some(columns, 5)}, 0 or 1 each"


def parsed(text: str) -> tuple[str, ...]:
    """Return the labels of one image that JOINED holds, each once."""
    return tuple(dict.fromkeys(json.loads(text)))


def joined(labels: Sequence[str]) -> str:
    """Return what `parsed` reads."""
    return json.dumps(sorted(dict.fromkeys(labels)), ensure_ascii=False)


def labels_array(texts: Sequence[str], order: Sequence[str], where: str) -> tuple[np.ndarray, list[str]]:
    """Return (bool [N, L], display names of the L labels) of texts that `parsed` reads. `order`: of the labels, or none for that of their
    names. Raises DataError for fewer than two labels, one with fewer than FEWEST images, or one that every image has."""
    own = [parsed(text) for text in texts]
    there = {label for labels in own for label in labels}
    raw = [label for label in order if label in there] if order else sorted(there)
    if len(raw) < 2:
        only = f" ({display_name(raw[0])})" if raw else ""
        raise DataError(
            f"{where} holds {len(raw)} label{only}. Several labels an image need two or more. For one class an image name ?label=."
        )
    check_names(raw, where)
    at = {label: k for k, label in enumerate(raw)}
    out = np.zeros((len(own), len(raw)), bool)
    for k, labels in enumerate(own):
        out[k, [at[label] for label in labels]] = True
    counts = out.sum(axis=0)
    if few := [display_name(raw[k]) for k in np.flatnonzero(counts < FEWEST)]:
        have = "has" if len(few) == 1 else "have"
        raise DataError(f"{where}: {some(few)} {have} fewer than {FEWEST} images. Add some, or take the label out.")
    if every := [display_name(raw[k]) for k in np.flatnonzero(counts == len(own))]:
        raise DataError(f"{where}: every image has {some(every)}, so there is nothing to tell apart. Take the label out.")
    return out, [display_name(label) for label in raw]


def said_of(labels: np.ndarray) -> str:
    """Return how many labels images have, in words, from bool [N, L]."""
    none = int((~labels.any(axis=1)).sum())
    text = f"{labels.sum() / len(labels):.2g} labels an image"
    return text + (f", {none} image{'s' * (none != 1)} without any" if none else "")


def _joined(rows: Sequence[Row], cells: Sequence[Sequence[str]]) -> list[Row]:
    return [(where, row | {JOINED: joined(own)}) for (where, row), own in zip(rows, cells, strict=True)]


def _separator(rows: Sequence[Row], column: str, path: Path) -> str:
    """Return what joins the labels of a column; empty where lists do, or no cell has two. Raises DataError for two separators."""
    texts = [(where, text) for where, row in rows if not _is_list(text := row.get(column, ""))]
    used = [(s, next(where for where, text in texts if s in text)) for s in SURE if any(s in text for _, text in texts)]
    if len(used) > 1:
        (one, here), (other, there) = used
        raise DataError(f"{path}: {column} joins labels by {one} at {here} and by {other} at {there}. Use one of them.")
    if used and (lists := next((where for where, row in rows if _is_list(row.get(column, ""))), "")):
        raise DataError(f"{path}: {column} is a list at {lists} and joined by {used[0][0]} at {used[0][1]}. Write all rows in one form.")
    return used[0][0] if used else UNSURE if any(UNSURE in text for _, text in texts) else ""


def _is_list(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _cell(text: str, separator: str) -> list[str]:
    """Return the labels of one cell."""
    if _is_list(text):
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values = json.loads(text) if text.count('"') % 2 == 0 else [text]
    else:
        values = text.split(separator) if separator else [text]
    return [label for value in values if not missing(label := str(value).strip())]


def _bit(text: str, column: str, where: str) -> bool:
    if text.lower() not in BITS:
        raise DataError(
            f"{where}: {column} is {shown(text[:40])!r}, and of several columns of labels each holds 0 or 1. Name those alone, "
            "or one column in which the labels are joined."
        )
    return BITS[text.lower()]
