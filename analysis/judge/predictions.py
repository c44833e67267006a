"""Predictions of a network, read from a table that was made anywhere: image, and a class or a probability for every class."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.judge.labels import Labels, image_name, named_path, named_table, open_table
from study.console.text import DANGEROUS, shown
from study.datasets.ids import as_id
from study.datasets.manifest import NAMES
from study.datasets.spec import some
from study.errors import ConfigError, DataError, nearest
from study.question.naming import DataName
from study.scoring.metric import Said

SAID = ("predicted_class", "predicted", "prediction", "predicted_label", "predictions", "pred", "y_pred", "said", "class")
"""Names of the column of predicted classes, the surest name first."""
PERHAPS = ("label", "category")
"""Further names, used where no probabilities are in the table: beside those, such a column may hold the true class."""
BESIDE = {
    *("probability", "confidence", "score", "problem", "network", "id", "index", "", "fold", "seed", "true", "truth", "y_true", "target")
}
"""Columns that may stand beside probabilities and are no class, unless a class has that name.

Columns of splits, groups and weights are such too.
"""
NAMED = 3  # of what is wrong, with their lines
SLACK = 0.01  # by which probabilities may miss a sum of 1, as rounded ones do


def read_predictions(given: str, truth: Labels, *, probable: bool = False, costs: bool = False) -> Said:
    """Return the predicted places in `truth.classes`, int64 [N], in the order of its images, and where asked for, probabilities float64
    [N, C].

    `given` is a path, with ?image=COLUMN&label=COLUMN where the columns have other names. With `probable` probabilities are needed, and
    with `costs` they are taken where the file has them. A column of classes is taken before probabilities. With probabilities, the
    highest is the prediction, and of equal ones the first class.

    Raises ConfigError for columns that are not there, DataError with file and line for a wrong row, and where the images differ.
    """
    named = named_table(given)
    path = named_path(named)
    header, rows = open_table(named, "a table of predictions")
    image = _column(header, named, "image", NAMES["image"])
    if image is None:
        raise ConfigError(f"{path}: which column is the image? It has {shown(', '.join(header)[:200])}. Say it: {given}?image=COLUMN.")
    others = [h for h in header if h != image]
    said = _column(others, named, "label", SAID)
    if said is None and not _of_classes(others, truth):
        said = _column(others, named, "label", PERHAPS)
        if said and "label" not in named.options and truth.label_column.lower() in SAID:
            raise ConfigError(
                f"{path} has a column {said}, and {truth.path}, which is read as the labels, a column {truth.label_column}: "
                f"are they the other way round? The labels come last. If all is right, say {path}?label={said}."
            )
    if probable and not _of_classes(others, truth):
        raise ConfigError(
            f"{path} has no probabilities ({shown(', '.join(header)[:200])}), and the metric is of them: give a column for every class "
            f"({some(truth.classes, 5)}), or choose one of the class named: --metric macro_f1."
        )
    shares = probable or (costs and len(set(_of_classes(others, truth).values())) == len(truth.classes))
    columns = {} if said and not shares else _probability_columns([h for h in others if h != said], truth, path)
    said_of: dict[str, int] = {}
    found: dict[str, list[float]] = {}
    lines: dict[str, str] = {}
    unknown: list[str] = []
    number = {c: k for k, c in enumerate(truth.classes)} | {as_id(c): k for k, c in enumerate(truth.classes)}
    for where, row in rows:
        name = image_name(row.get(image, ""), where)
        if name in lines:
            raise DataError(f"{where}: {name} stands in {lines[name]} already. Keep one row an image.")
        lines[name] = where
        if columns:
            found[name] = _shares(row, columns, where, whole=shares)
        if said is None:
            said_of[name] = max(range(len(columns)), key=lambda k, own=found[name]: (own[k], -k))  # type: ignore[misc]
            continue
        label = row.get(said, "")
        label = label[1:] if label[:1] == "'" and label[1:].startswith(DANGEROUS) else label
        if not label:
            raise DataError(
                f"{where}: says no class of {name} (column {said}). Predict it, or take the image out of all files and of {truth.path}."
            )
        place = number.get(label, number.get(as_id(label)))
        if place is None:
            unknown.append(f"{label[:80]} ({where})")
        else:
            said_of[name] = place
    if unknown:
        raise DataError(
            f"{path}: says classes that {truth.path} has not ({some(unknown, NAMED)}). Spell them as there "
            f"({some(truth.classes, 5)}), or, where the test images hold none of them, name all classes with --classes."
        )
    order = _in_order(said_of, lines, truth, path)
    places = np.array([said_of[n] for n in order], np.int64)
    return Said(named=places, probabilities=np.array([found[n] for n in order]) if shares else None)


def _column(header: Sequence[str], named: DataName, role: str, names: Sequence[str]) -> str | None:
    """Return the table's column of a role, or None. Raises ConfigError where a column was named that is not there."""
    wanted = named.options.get(role)
    lower = {h.strip().lower(): h for h in reversed(header)}
    if wanted is None:
        return next((lower[n] for n in names if n in lower), None)
    if wanted not in header and wanted.lower() not in lower:
        raise ConfigError(f"{named.where}: the table has no column {wanted!r}. Choose from {nearest(wanted, list(header))}.")
    return wanted if wanted in header else lower[wanted.lower()]


def _of_classes(header: Sequence[str], truth: Labels) -> dict[str, int]:
    """Return by column the class whose probability it holds. The column is called like the class, or p(CLASS)."""
    named = {form: k for k, c in enumerate(truth.classes) for form in (c, f"p({c})")}
    return {h: named[h] for h in header if h in named}


def _probability_columns(header: Sequence[str], truth: Labels, path: Path) -> dict[str, int]:
    """Return `_of_classes`, with one column for every class and no other. Raises ConfigError, DataError."""
    found = _of_classes(header, truth)
    if not found:
        raise ConfigError(
            f"{path}: which column is the class? It has {shown(', '.join(header)[:200])}, and none is called class or as the classes "
            f"({some(truth.classes, 5)}). Say it: {path}?label=COLUMN."
        )
    if twice := [h for h in found if list(found.values()).count(found[h]) > 1]:
        raise DataError(f"{path}: the columns {some(twice, 2)} are of one class. Keep one.")
    if absent := [c for k, c in enumerate(truth.classes) if k not in found.values()]:
        raise DataError(f"{path}: has no column for {some(absent)}. A probability for every class is needed, or one column, class.")
    aside = BESIDE | {n for role in ("split", "group", "weight", "names", "label") for n in NAMES[role]}
    if strange := [h for h in header if h not in found and h.strip().lower() not in aside]:
        raise DataError(
            f"{path}: its column {shown(some(strange, NAMED))} is no class of {truth.path}. Take it out, or, where the test "
            "images hold none of that class, name all classes with --classes."
        )
    return found


def _shares(row: Mapping[str, str], columns: Mapping[str, int], where: str, *, whole: bool) -> list[float]:
    """Return the probability of every class. With `whole` they must sum to 1. Raises DataError for a value that is no probability."""
    shares = [0.0] * len(columns)
    for column, k in columns.items():
        try:
            shares[k] = float(row.get(column, ""))
        except ValueError:
            shares[k] = math.nan
        if not 0 <= shares[k] <= 1:
            raise DataError(
                f"{where}: {shown(column[:80])} is {shown(row.get(column, '')[:40])!r}. It must be a probability, 0 to 1 (of "
                "logits, give the softmax, or a column class)."
            )
    if whole and abs(sum(shares) - 1) > SLACK:
        raise DataError(f"{where}: the probabilities sum to {sum(shares):.3g}. They must sum to 1, over all classes.")
    return [v / sum(shares) for v in shares] if whole else shares


def _in_order(said_of: Mapping[str, int], lines: Mapping[str, str], truth: Labels, path: Path) -> list[str]:
    """Return the file's names of the labels' images, in their order. Raises DataError where the two have different images."""
    wanted = truth.images.tolist()
    found = {n: n for n in said_of} if any(w in said_of for w in wanted) else _by_last_part(said_of, wanted)
    if absent := [w for w in wanted if w not in found]:
        raise DataError(
            f"{path}: {len(absent)} of {len(wanted)} images of {truth.path} are not in it "
            f"({some([f'{w[:120]}, {truth.lines[w]}' for w in absent], NAMED)}). Predict them too, or take them out of all files."
        )
    known = {*wanted, *truth.aside}
    if found.keys() == said_of.keys() and (extra := [n for n in said_of if n not in known]):
        raise DataError(
            f"{path}: {len(extra)} of its images are not in {truth.path} "
            f"({some([f'{n[:120]}, {lines[n]}' for n in extra], NAMED)}). Label them there, or take them out here."
        )
    return [found[w] for w in wanted]


def _by_last_part(said_of: Mapping[str, int], wanted: Sequence[str]) -> Mapping[str, str]:
    """Return the file's name by wanted name, matched without folders where only those agree and each occurs once."""

    def last(name: str) -> str:
        return name.replace("\\", "/").rpartition("/")[2]

    ours, theirs = {last(w) for w in wanted}, {last(n) for n in said_of}
    if len(ours) < len(wanted) or len(theirs) < len(said_of) or ours != theirs:
        return {n: n for n in said_of}
    short = {last(n): n for n in said_of}
    return {w: short[last(w)] for w in wanted}
