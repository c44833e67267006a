"""Whether a data set can be cut into the outer folds that a study asks for: each image a test image once, each fold with every class."""

import numpy as np

from study.conduct.same_images import Tables
from study.datasets.spec import ImageTable, astride, some
from study.errors import ConfigError, DataError
from study.question.config import Study


def check_outer_folds(study: Study, tables: Tables) -> None:
    """Raises ConfigError where the test split is given or is cut another number of times, DataError for classes and groups that do not fit."""
    for (dataset, _), table in tables.items() if study.folds > 1 else ():
        _check_count(study.folds, dataset, table)
        _check_classes(study.folds, dataset, table)
        _check_groups(study.folds, dataset, table)


def _check_count(folds: int, dataset: str, table: ImageTable) -> None:
    if table.folds == 1:
        raise ConfigError(
            f"folds {folds}: {dataset} has one test split, which is given and is kept. Leave folds out, or take the test split away to have "
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
            f"{dataset}: too few images to have one in each of {folds} folds: {some(few)}. Add images of it, merge it with another class, or "
            "leave folds out."
        )


def _check_groups(folds: int, dataset: str, table: ImageTable) -> None:
    """A group lies in one fold, with all its images."""
    if table.groups is None:
        return
    if count := astride(table.groups, table.split):
        raise DataError(
            f"{dataset}: {count} groups have images in more than one fold, so a network would be tested on what it was trained on. Take a split "
            f"protocol that keeps them whole ({dataset}@session, where there is one), or leave folds out."
        )
    own = table.groups[table.split >= 0]
    largest = int(np.unique(own, return_counts=True)[1].max())
    if largest * folds > len(own):
        raise DataError(
            f"{dataset}: one group holds {largest} of {len(own)} images, more than one of {folds} folds. Divide it into smaller groups, or leave "
            "folds out."
        )
