"""Tables of another shape than one row for each image with one label: their shape, and what to make of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from study.console.text import shown
from study.datasets.imagefiles import SUFFIXES, WITH_PACKAGE
from study.datasets.spec import some
from study.errors import DataError

BITS = {"0": False, "0.0": False, "false": False, "": False, "1": True, "1.0": True, "true": True}
KNOWN = (*SUFFIXES, *WITH_PACKAGE)
MOST = 20  # columns that a command names in full, to be copied
Cells = Sequence[tuple[str, Mapping[str, str]]]


def check_header(path: Path, header: Sequence[str], there: Callable[[str], object]) -> None:
    """Raise DataError where the first line is a row, not a header: it names an image, by its suffix or because it is `there`."""
    at = next((k for k, cell in enumerate(header) if cell.lower().endswith(KNOWN)), None)
    if at is None:
        at = next((k for k, cell in enumerate(header) if "." not in cell and len(cell) > 2 and there(cell)), None)
    if at is None:
        return
    label = next((k for k in range(len(header)) if k != at), None)
    names = ["image" if k == at else "label" if k == label else f"column{k + 1}" for k in range(len(header))]
    raise DataError(
        f"{path}: its first line ({shown(', '.join(header)[:80])}) is a row, not the names of the columns. "
        f"Put a line above it that names them, as {','.join(names)}"
    )


def one_hot(header: Sequence[str], rows: Cells, aside: str) -> list[str]:
    """Return the columns beside `aside` in which each row has exactly one 1 and otherwise 0; none where that is not so."""
    columns = _bits(header, rows, aside)
    sums = {sum(BITS[row.get(c, "").lower()] for c in columns) for _, row in rows}
    return columns if len(columns) > 1 and sums == {1} else []


def check_measured(labels: Sequence[str], where: str) -> None:
    """Raise DataError where the labels are decimal numbers, most of them different: a measurement is no class."""
    different = set(labels)
    broken = [label for label in labels if re.fullmatch(r"[+-]?\d*[.]\d*[1-9]\d*(e[+-]?\d+)?", label.strip(), re.IGNORECASE)]
    if len(different) > max(10, len(labels) / 4) and 2 * len(broken) > len(labels):
        raise DataError(
            f"{where}: {len(different)} different numbers for {len(labels)} images ({some(sorted(set(broken)), 3)}) are measurements, not "
            "classes. Write classes, such as low and high, into a column of their own, and name it with ?label=COLUMN."
        )


def why_no_label(path: Path, header: Sequence[str], rows: Cells, image: str) -> str | None:
    """Return the shape of a table without a column for labels, in words; None where it tells nothing."""
    if len(header) == 1:
        return (
            f"{path} has one column alone ({shown(header[0][:80])}). Give each row the class of its image too, after a comma, semicolon, "
            "tab or |. Images in a folder for each class need no table: folder:PATH"
        )
    if columns := one_hot(header, rows, image):
        return (
            f"{path} has a column for each class with a 1 in one of them a row ({some(columns, 4)}: one-hot). Write the name of "
            "that column into one column, label"
        )
    if len(columns := _bits(header, rows, image)) > 2:
        return (
            f"{path} has {len(columns)} columns of 0 and 1 ({some(columns, 4)}), and not one 1 a row. Where an image has "
            "several labels, name "
            f"all of them: ?labels={','.join(columns[:MOST])}{',...' * (len(columns) > MOST)}. Where it has one class, name one "
            "column with ?label="
        )
    return None


def delimiter_said(first: str) -> str | None:
    """Return the separator named by a first line as Excel writes it; None where it names none."""
    found = re.fullmatch(r'\ufeff?"?sep=(.)"?\s*', first, re.IGNORECASE)
    return found[1] if found else None


def _bits(header: Sequence[str], rows: Cells, aside: str) -> list[str]:
    columns = [c for c in header if c != aside]
    return [c for c in columns if all(row.get(c, "").lower() in BITS for _, row in rows) and any(row.get(c) for _, row in rows)]
