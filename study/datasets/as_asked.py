"""A user's own images as the options of their name ask for them, from any source: in tiles, classes in an order of theirs."""

from dataclasses import replace

import numpy as np

from study.datasets.spec import ImageTable, some
from study.errors import ConfigError, nearest
from study.question.name_parts import listed, tiles_of
from study.question.naming import DataName


def as_asked(table: ImageTable, data: DataName) -> ImageTable:
    """Return the table under its whole name, cut and ordered as that says. Raises ConfigError for an order that is not of its classes."""
    options = data.options
    tiles = tiles_of(options.get("tiles", "1x1"), data.dataset)
    table = replace(table, name=data.dataset, tiles=tiles, pool=options.get("pool", "mean"))
    if tiles != (1, 1):
        pooled = "the highest" if table.pool == "max" else "the mean"
        seen = f"each seen as {tiles[0] * tiles[1]} tiles ({options['tiles']}), its probabilities {pooled} of theirs"
        table = replace(table, form=f"{table.form}; {seen}")
    return _in_order(table, listed(options["ordered"]), data) if "ordered" in options else table


def _in_order(table: ImageTable, names: list[str], data: DataName) -> ImageTable:
    """Return the table with its classes numbered in this order."""
    if table.several:
        raise ConfigError(f"{data.dataset}: ordered is of classes of which an image has one, and these have several labels. Leave it out.")
    if unknown := [n for n in names if n not in table.classes]:
        raise ConfigError(
            f"{data.dataset}: ordered names {unknown[0]!r}, which is no class of these images. Choose from "
            f"{nearest(unknown[0], list(table.classes))}."
        )
    if left := [c for c in table.classes if c not in names]:
        raise ConfigError(
            f"{data.dataset}: ordered does not name {some(left, 5)}. Name all {len(table.classes)} classes from the lowest to the "
            "highest, joined by commas."
        )
    number = np.array([names.index(c) for c in table.classes], np.int64)
    return replace(
        table,
        classes=tuple(names),
        labels=number[table.labels],
        soft=None if table.soft is None else table.soft[:, np.argsort(number)],
        second=None if table.second is None else np.where(table.second < 0, table.second, number[table.second]),
        ordered=True,
        form=f"{table.form}; classes in the order {' < '.join(names)}",
    )
