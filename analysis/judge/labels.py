"""The labels that predictions are compared with: a table with one row per image, read by the rules of every other table of labels."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.console.text import DANGEROUS, shown
from study.datasets.called import check_names, missing
from study.datasets.ids import check_ids
from study.datasets.manifest import Row, find_columns, rows_of, split_number
from study.datasets.shapes import check_header
from study.datasets.spec import TEST, some
from study.datasets.user_table import number_groups
from study.errors import ConfigError, DataError
from study.question.naming import DataName

MOST_IMAGES = 100_000
MOST_WORK = 60_000_000  # images times classes: what is held at once, four bytes three times each
LONGEST_NAME = 4096  # characters; a path has no more
FEWEST_IMAGES = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The true labels of the images that are judged, in the order of their names, as in a study."""

    path: Path
    images: np.ndarray  # [N] their names
    labels: np.ndarray  # int64 [N], places in `classes`
    groups: np.ndarray | None  # int64 [N]: what is drawn as a whole
    classes: tuple[str, ...]
    lines: Mapping[str, str]  # by image, where it stands: "labels.csv:7"
    aside: frozenset[str]  # images of other splits: predictions of them are left out
    label_column: str = "label"
    group_column: str = ""


def read_labels(given: str, *, groups: str | None = None, classes: Sequence[str] | None = None) -> Labels:
    """Read the table of labels.

    `given` is a path, with ?image=COLUMN&label=COLUMN where the columns have other names. `groups` is the column of what belongs
    together. `classes` lists all classes in their order, where some have no image here. Where the table has a column of splits, its
    test images are judged.

    Raises ConfigError for columns that are not there, DataError with file and line for a wrong row.
    """
    named = named_table(given)
    header, rows = open_table(named, "a table of labels")
    path = named_path(named)
    given_columns = {**named.options, **({"group": groups} if groups else {})}
    column = find_columns(header, given_columns, named.dataset, rows, path)
    if column.get("group") == column["label"]:
        raise ConfigError(f"--groups {column['label']} is the column of the labels. Name the column of what belongs together.")
    found, aside = _by_image(rows, column, path)
    order = _class_order({label for _, _, label, _ in found}, classes, path)
    if len(found) < FEWEST_IMAGES:
        raise DataError(f"{path}: {len(found)} labelled images to judge by. A verdict needs {FEWEST_IMAGES} or more.")
    if len(found) > MOST_IMAGES or len(found) * len(order) > MOST_WORK:
        raise DataError(
            f"{path}: {len(found):,} images of {len(order):,} classes are more than is judged at once. Draw a part of them at random."
        )
    images = np.array([image for image, *_ in found])
    by_name = np.argsort(images, kind="stable")
    number = {label: k for k, label in enumerate(order)}
    together = number_groups([group for *_, group in found]) if "group" in column else None
    if together is not None and len(np.unique(together)) < 2:
        raise DataError(
            f"{path}: all images are of one group ({column['group']}), which tells nothing of others. Name another column with --groups."
        )
    return Labels(
        path=path,
        images=images[by_name],
        labels=np.array([number[label] for _, _, label, _ in found], np.int64)[by_name],
        groups=None if together is None else together[by_name],
        classes=tuple(order),
        lines={image: where for image, where, *_ in found},
        aside=frozenset(aside),
        label_column=column["label"],
        group_column=column["group"] if together is not None else "",
    )


def named_table(given: str) -> DataName:
    """Return a table's path and the columns that were named beside it. Raises ConfigError."""
    if not given.strip():
        raise ConfigError("'' names no table. Give a file.")
    return DataName.of_table(given)


def named_path(named: DataName) -> Path:
    """Return where a table lies."""
    return Path(named.where).expanduser()


def open_table(named: DataName, what: str) -> tuple[list[str], list[Row]]:
    """Return the column names and rows of a table of bounded size. `what` says in words what is needed. Raises DataError."""
    path = named_path(named)
    if path.is_dir():
        raise DataError(f"{path} is a folder. Give {what}.")
    try:
        header, rows = rows_of(path, what)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Look after its path, its owner and its disk.") from None
    check_header(path, header, lambda _: None)
    if twice := [h for h in header if h and header.count(h) > 1]:
        raise DataError(f"{path}: the header has the column {shown(twice[0])!r} twice. Keep one, or rename the other.")
    return header, rows


def image_name(text: str, where: str) -> str:
    """Return an image's name in one form of Unicode, without the apostrophe that keeps a spreadsheet from running it.

    Raises DataError for an empty name.
    """
    name = unicodedata.normalize("NFC", text[1:] if text[:1] == "'" and text[1:].startswith(DANGEROUS) else text)
    if not name:
        raise DataError(f"{where}: names no image. Fill it in, or take the row out.")
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"{where}: the image's name has {len(name):,} letters, more than the {LONGEST_NAME:,} that a path may have. Correct it."
        )
    return name


def _by_image(rows: Sequence[Row], column: Mapping[str, str], path: Path) -> tuple[list[tuple[str, str, str, str | None]], set[str]]:
    """Return ((image, where, label, group) of every image that is judged, names of the images of other splits)."""
    found: list[tuple[str, str, str, str | None]] = []
    aside, lines = set[str](), dict[str, str]()
    for where, row in rows:
        image = image_name(row.get(column["image"], ""), where)
        if image in lines:
            raise DataError(f"{where}: {image} stands in {lines[image]} already. Keep one row an image.")
        lines[image] = where
        if "split" in column and ((split := row.get(column["split"], "")) == "" or split_number(split, where) != TEST):
            aside.add(image)
            continue
        label = row.get(column["label"], "")
        if missing(label):
            raise DataError(f"{where}: {image} has no {column['label']}. Fill it in, or take the row out.")
        found.append((image, where, label, (row.get(column["group"], "") or None) if "group" in column else None))
    if not found:
        raise DataError(f"{path}: no row is of the split test (column {column['split']}). Rename that column to judge all of them.")
    return found, aside


def _class_order(labels: set[str], given: Sequence[str] | None, path: Path) -> list[str]:
    """Return the classes: those with an image, and those that were named besides. Raises DataError, ConfigError."""
    check_ids(labels | set(given or ()), str(path))
    if given is not None:
        if twice := [c for c in given if list(given).count(c) > 1]:
            raise ConfigError(f"--classes names {twice[0]} twice. Keep one.")
        if absent := sorted(labels - set(given)):
            raise ConfigError(f"--classes lacks {some(absent)}, which {path} has. Name every class, or leave --classes out.")
        order = list(given)
    else:
        order = (
            sorted(labels, key=lambda c: (int(c), c))
            if all(c.isascii() and c.isdigit() and len(c) < 10 for c in labels)
            else sorted(labels)
        )
    if len(labels) < 2:
        raise DataError(f"{path}: every image is labelled {shown(order[0])}. There is nothing to tell apart.")
    check_names(order, str(path))
    return order
