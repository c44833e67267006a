"""Checks of the outer folds that a study asks for: each image is a test image once, and each fold has every class."""

import numpy as np

from study.conduct.same_images import Tables
from study.datasets import open_dataset
from study.datasets.audit import rare
from study.datasets.spec import TEST, ImageTable, astride, some
from study.errors import ConfigError, DataError
from study.question.config import Study
from study.storage.places import Places


def check_outer_folds(study: Study, tables: Tables) -> None:
    """Raise ConfigError where the test split is given or cut another number of times, DataError for classes and groups that do not fit."""
    for (dataset, _), table in tables.items() if study.folds > 1 else ():
        _check_count(study.folds, dataset, table)
        _check_classes(study.folds, dataset, table)
        _check_groups(study.folds, dataset, table)


def check_each_fold(study: Study, tables: Tables, places: Places) -> None:
    """Open the data on every fold.

    Raises DataError where an image is not tested exactly once, or a class would be tested by a network that never saw it.
    """
    for (dataset, protocol), first in tables.items() if study.folds > 1 else ():
        tested = np.zeros(len(first.ids), int)
        cell = next(c for c in study.cells if (c.dataset, c.split_protocol) == (dataset, protocol))
        for search in range(study.searches):
            data = study.cell_of(cell, search).data
            table = open_dataset(data.dataset, splits=data.splits, root=places.data_root)
            tested += (table.split == TEST) * (search < study.folds)
            counts = table.counts()
            unseen = [n for n, train, test in zip(table.classes, counts["train"], counts["test"], strict=True) if test and not train]
            if unseen:
                raise DataError(
                    f"{data.full}: no training image is left of {some(unseen)}. Its images lie in too few groups: divide them into "
                    "smaller ones, merge the class with another, or leave folds out."
                )
        if count := int((tested[first.split >= 0] != 1).sum()):
            raise DataError(
                f"{cell.data.key}: {count} images are not tested exactly once by its {study.folds} folds, as where a validation "
                "split is given. "
                "Take it away to have every image tested, or leave folds out."
            )


def tested_images(study: Study, table: ImageTable) -> tuple[int, np.ndarray | None]:
    """Return the number of test images of the study's verdict and their sessions, if they have any: all images with outer folds."""
    if study.folds == 1:
        return table.of(TEST)
    own = table.split >= 0
    return int(own.sum()), None if table.groups is None else table.groups[own]


def few_tested(folds: int, table: ImageTable) -> list[str]:
    """Return a warning about classes with few test images, one line or none. With outer folds each image is a test image."""
    counts = table.counts()
    if folds > 1:
        counts["test"] = np.sum([*counts.values()], axis=0).tolist()
    return rare(table.classes, counts)


def _check_count(folds: int, dataset: str, table: ImageTable) -> None:
    if table.folds == 1:
        raise ConfigError(
            f"folds {folds}: {dataset} has one test split, which is given and is kept. Leave folds out, or take the test split "
            "away to have "
            "every image tested once."
        )
    if table.folds != folds:
        raise ConfigError(
            f"folds {folds}: {dataset} is cut into {table.folds} folds, and every image is to be tested once. Set folds={table.folds}."
        )


def _check_classes(folds: int, dataset: str, table: ImageTable) -> None:
    have = np.bincount(table.labels[table.split >= 0], minlength=len(table.classes))
    if few := [f"{name} ({count})" for name, count in zip(table.classes, have.tolist(), strict=True) if count < folds]:
        raise DataError(
            f"{dataset}: too few images to have one in each of {folds} folds: {some(few)}. Add images of it, merge it with another "
            "class, or "
            "leave folds out."
        )


def _check_groups(folds: int, dataset: str, table: ImageTable) -> None:
    """Raise DataError where a group of images lies in several folds, or is larger than a fold."""
    if table.groups is None:
        return
    if count := astride(table.groups, table.split):
        raise DataError(
            f"{dataset}: {count} groups have images in more than one fold, so a network would be tested on what it was trained on. "
            "Take a split "
            f"protocol that keeps them whole ({dataset}@session, where there is one), or leave folds out."
        )
    own = table.groups[table.split >= 0]
    largest = int(np.unique(own, return_counts=True)[1].max())
    if largest * folds > len(own):
        raise DataError(
            f"{dataset}: one group holds {largest} of {len(own)} images, more than one of {folds} folds. Divide it into smaller "
            "groups, or leave "
            "folds out."
        )
