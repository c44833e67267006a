"""The table of a draw, written empty and read filled in: each fault is named with its line."""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from study.console.text import DANGEROUS, harmless, shown
from study.datasets.called import missing
from study.datasets.manifest import rows_of
from study.datasets.spec import some
from study.errors import DataError, nearest
from study.storage import outputs

COLUMNS = ["image", "probability", "label"]
TABLE = outputs.Kind("empty table of pictures to label", lambda file: _is_empty(file))
NOTHING = "none of these"
"""The label of a picture that shows none of the classes."""
FAULTS = 10  # named at once


def table(draw: Mapping[str, Any]) -> bytes:
    """CSV: the pictures that have no label yet, in the order in which they were drawn."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows([harmless(i["image"]), i["probability"], ""] for i in draw["images"] if i["label"] is None)
    return text.getvalue().encode()


def _is_empty(file: BinaryIO) -> bool:
    """Return True for a table into which nobody has written yet."""
    header, *rows = csv.reader(io.StringIO(file.read().decode()))
    return header == COLUMNS and all(len(row) == len(COLUMNS) and not row[-1].strip() for row in rows)


def read_labels(path: Path, draws: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Return which draw a table is of, and the label of each of its pictures; empty for one that shows none of the classes.

    Of a draw that is joined already, the table may hold any of the rows. Raises DataError.
    """
    header, rows = rows_of(path, "the table of a draw, filled in")
    column = {h.strip().lower(): h for h in header}
    if lost := [name for name in ("image", "label") if name not in column]:
        raise DataError(f"{path}: its columns are {', '.join(header)[:80]}. It needs {' and '.join(lost)}, as study.label wrote it.")
    named = [(where, _plain(row.get(column["image"], "")), row.get(column["label"], "")) for where, row in rows]
    place = _draw_of({image for _, image, _ in named}, draws, path)
    wanted = _open(draws[place])
    lines, found, faults = dict[str, str](), dict[str, str](), list[str]()
    for where, image, label in named:
        if image in lines:
            faults.append(f"{where}: {shown(image)} stands in {lines[image]} already. Keep one row")
        elif image not in wanted:
            faults.append(f"{where}: {shown(image) or 'no image'} was not drawn. Take the row out")
        elif (said := _class_of(label, classes)) is None:
            faults.append(f"{where}: {_fault(image, label, classes)}")
        else:
            found[image] = said
        lines.setdefault(image, where)
    if (lost := sorted(wanted - set(lines))) and not draws[place]["filled"]:
        have = "pictures that were drawn have" if len(lost) > 1 else "picture that was drawn has"
        faults.append(
            f"{path}: {len(lost)} {have} no row ({some([shown(n) for n in lost], 3)}). All are needed, since each stands for others"
        )
    if faults:
        more = f". And {len(faults) - FAULTS} more" if len(faults) > FAULTS else ""
        raise DataError(f"{'; '.join(faults[:FAULTS])}{more}.")
    return place, found


def _draw_of(images: set[str], draws: Sequence[Mapping[str, Any]], path: Path) -> int:
    """Return the draw that has most of these pictures; of several the one with fewest others, then one to be joined, then the latest."""
    own = [_open(d) for d in draws]
    place = max(range(len(own)), key=lambda k: (len(images & own[k]), -len(own[k]), not draws[k]["filled"], k), default=None)
    if place is None or not images & own[place]:
        raise DataError(
            f"{path}: none of its {len(images)} pictures was drawn for this study. Draw some with python -m study.label STUDY FOLDER."
        )
    return place


def _open(draw: Mapping[str, Any]) -> set[str]:
    """Return the pictures that a table of the draw may label: those without a label, or all of them once they are joined."""
    return {i["image"] for i in draw["images"] if draw["filled"] or i["label"] is None}


def _plain(text: str) -> str:
    """An image's name without what a spreadsheet needs, one for all ways to write its letters."""
    name = text[1:] if text[:1] == "'" and text[1:].startswith(DANGEROUS) else text
    return unicodedata.normalize("NFC", name)


def _class_of(label: str, classes: Sequence[str]) -> str | None:
    """None for what is no class; letters and blanks around do not matter."""
    text = _plain(label.strip())
    if text in classes:
        return text
    alike = [c for c in classes if c.casefold() == text.casefold()]
    return alike[0] if len(alike) == 1 else "" if text.casefold() == NOTHING else None


def _fault(image: str, label: str, classes: Sequence[str]) -> str:
    if missing(label):
        return f"{shown(image)} has no label. Fill it in, with {NOTHING!r} where it shows none of the classes"
    return f"{shown(label)[:60]!r} is no class. Choose from {nearest(label, [*classes, NOTHING])}"
