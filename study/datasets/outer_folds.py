"""Checks of whether images can be cut into outer folds: each image a test image once, each fold with every class, sessions whole."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from study.datasets import open_dataset
from study.datasets.spec import FOLDS, TEST, ImageTable, astride, some
from study.errors import ConfigError, DataError
from study.question.naming import DataName

MANY_IMAGES = 2_000
"""The number of images of which a fifth is enough to test on."""
MANY_TESTED = 20
"""Test images of a class: with fewer, a fifth of the images tells little of it."""


def check_cut(folds: int, dataset: str, table: ImageTable) -> None:
    """Check that the images can be cut into these folds.

    Raises ConfigError where the test split is given or is cut another number of times, DataError for classes and groups that do not
    fit.
    """
    _check_count(folds, dataset, table)
    _check_classes(folds, dataset, table)
    _check_groups(folds, dataset, table)


def check_each(first: ImageTable, searches: Iterable[DataName], folds: int, root: Path | None) -> None:
    """Opens the data as each search sees them. Raises DataError where an image is not tested exactly once, or a class would be tested by a
    network that never saw it."""
    tested = np.zeros(len(first.ids), int)
    name = ""
    for search, data in enumerate(searches):
        name = data.key
        table = open_dataset(data.dataset, splits=data.splits, root=root)
        tested += (table.split == TEST) * (search < folds)
        counts = table.counts()
        unseen = [n for n, train, test in zip(table.classes, counts["train"], counts["test"], strict=True) if test and not train]
        if unseen:
            raise DataError(
                f"{data.full}: no training image is left of {some(unseen)}. Its images lie in too few groups: divide them into "
                "smaller ones, merge the class with another, or leave folds out."
            )
    if count := int((tested[first.split >= 0] != 1).sum()):
        raise DataError(
            f"{name}: {count} images are not tested exactly once by its {folds} folds, as where a validation split is given. "
            "Take it away to have every image tested, or leave folds out."
        )


def worth_folding(data: DataName, table: ImageTable, root: Path | None) -> int:
    """Return the number of folds to cut images into where nobody asked for one.

    It is FOLDS where a fifth of the images tests little and the cut is possible, else 1.
    """
    images = int((table.split >= 0).sum())  # not labels, of which an image may have several
    if images >= MANY_IMAGES and min(table.counts()["test"]) >= MANY_TESTED:
        return 1
    try:
        if data.fold is not None:
            return 1
        check_cut(FOLDS, data.dataset, table)
        check_each(table, [data.on_fold(k) for k in range(FOLDS)], FOLDS, root)
    except (ConfigError, DataError):
        return 1
    return FOLDS


def _check_count(folds: int, dataset: str, table: ImageTable) -> None:
    if table.folds == 1:
        raise ConfigError(
            f"folds {folds}: {dataset} has one test split, which is given and is kept. Leave folds out, or take the test split "
            "away to have every image tested once."
        )
    if table.folds != folds:
        raise ConfigError(
            f"folds {folds}: {dataset} is cut into {table.folds} folds, and every image is to be tested once. Set folds={table.folds}."
        )


def _check_classes(folds: int, dataset: str, table: ImageTable) -> None:
    have = np.array([(table.of_class(k) & (table.split >= 0)).sum() for k in range(len(table.classes))])
    if few := [f"{name} ({count})" for name, count in zip(table.classes, have.tolist(), strict=True) if count < folds]:
        raise DataError(
            f"{dataset}: too few images to have one in each of {folds} folds: {some(few)}. Add images of it, merge it with "
            "another class, or leave folds out."
        )


def _check_groups(folds: int, dataset: str, table: ImageTable) -> None:
    """A group lies in one fold, with all its images."""
    if table.groups is None:
        return
    if count := astride(table.groups, table.split):
        raise DataError(
            f"{dataset}: {count} groups have images in more than one fold, so a network would be tested on what it was trained "
            f"on. Take a split protocol that keeps them whole ({dataset}@session, where there is one), or leave folds out."
        )
    own = table.groups[table.split >= 0]
    largest = int(np.unique(own, return_counts=True)[1].max())
    if largest * folds > len(own):
        raise DataError(
            f"{dataset}: one group holds {largest} of {len(own)} images, more than one of {folds} folds. Divide it into "
            "smaller groups, or leave folds out."
        )
