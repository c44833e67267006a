"""A study by outer folds and its data: whether these can be cut as it asks, and how many images its verdict rests on."""

import numpy as np

from study.conduct.same_images import Tables
from study.datasets.audit import rare
from study.datasets.outer_folds import check_cut, check_each
from study.datasets.spec import TEST, ImageTable
from study.question.study_config import Study
from study.storage.places import Places


def check_outer_folds(study: Study, tables: Tables) -> None:
    """Raise ConfigError where the test split is given or cut another number of times, DataError for classes and groups that do not fit."""
    for (dataset, _), table in tables.items() if study.folds > 1 else ():
        check_cut(study.folds, dataset, table)


def check_each_fold(study: Study, tables: Tables, places: Places) -> None:
    """Open the data on every fold.

    Raises DataError where an image is not tested exactly once, or a class would be tested by a network that never saw it.
    """
    for (dataset, protocol), first in tables.items() if study.folds > 1 else ():
        cell = next(c for c in study.cells if (c.dataset, c.split_protocol) == (dataset, protocol))
        searches = [study.cell_of(cell, search).data for search in range(study.searches)]
        check_each(first, searches, study.folds, places.data_root)


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
