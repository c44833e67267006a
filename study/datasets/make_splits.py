"""Splits that we make: about 60 / 20 / 20, classes in proportion, groups whole, and no copy of an image on another side."""

from collections.abc import Sequence

import numpy as np

from study.datasets.copies import clusters, merged
from study.datasets.image_scan import Look
from study.datasets.spec import FOLDS, SPLITS, TEST, TRAIN, VAL, stratified_parts, test_and_val
from study.errors import ConfigError, DataError

LARGEST = 0.2  # of the images: a larger cluster fills a fold alone, and says that the hash cannot tell these images apart


def cut(
    labels: np.ndarray, groups: np.ndarray | None, seen: Sequence[Look], given: np.ndarray | None, fold: int, *, what: str
) -> tuple[np.ndarray, str]:
    """Return (int8 [N] splits, a sentence about them). `given`: int8 [N], the user's own splits; None: none.

    A missing validation or test split is a fifth of train: fold k of 5 is test, k + 1 validation. Raises DataError naming `what`,
    ConfigError for a fold of images whose test split is given.
    """
    given = np.zeros(len(labels), np.int8) if given is None else given
    check_fold(fold, bool((given == TEST).any()), what)
    missing = {k: number for number, k in zip(test_and_val(fold), (TEST, VAL), strict=True) if not (given == k).any()}
    missing = {k: missing[k] for k in sorted(missing)}
    names = " and ".join(SPLITS[k] for k in missing)
    split, own = given.copy(), np.flatnonzero(given == TRAIN)
    if not missing:
        return split, "given split"
    if not len(own):
        raise DataError(f"{what} has no train images, of which {names} could be cut. Add them.")
    parts, copies = apart(labels[own], None if groups is None else groups[own], [seen[int(k)] for k in own], list(missing.values()), what)
    for k, number in missing.items():
        split[own[parts[number]]] = k
    return split, (f"given split, {names} cut from train" if (given > TRAIN).any() else "own stratified split") + copies


def count_folds(given: np.ndarray | None) -> int:
    """Return the number of disjoint test splits that are cut from these images. `given`: int8 [N], the user's own splits; None: none."""
    return 1 if given is not None and (given == TEST).any() else FOLDS


def check_fold(fold: int, given: bool, what: str) -> None:
    """Raise ConfigError for a fold of images whose test split is given.

    Every such fold would be tested on the same images, and, where validation is given too, have the same training.
    """
    if fold and given:
        raise ConfigError(
            f"{what}: its test split is given, so there is no fold {fold}, which would be tested on the same images again; "
            "leave folds out, or take the test split away to have one cut for each fold."
        )


def apart(labels: np.ndarray, groups: np.ndarray | None, seen: list[Look], held: list[int], what: str) -> tuple[list[np.ndarray], str]:
    """Return five folds (positions) with copies on one side, and a sentence about them.

    Where the hash takes too many images for near copies to split them, only sure ones are kept together, or else exact ones, and the
    sentence says so. Exact copies always stay together.
    """
    digests, hashes = np.array([one.digest for one in seen]), np.array([one.hash for one in seen], np.uint64)
    near, lost = clusters(digests, hashes), ""
    if not _copies(near):
        return stratified_parts(labels, groups, what=what), ""
    for kind in ("exact or near", "exact or surely near", "exact"):
        if kind == "exact or surely near":
            near = clusters(digests, hashes, [one.thumbnail for one in seen])
        elif kind == "exact":
            near = clusters(digests)
        count = _copies(near)
        if not count:
            return stratified_parts(labels, groups, what=what), lost
        small = np.bincount(near).max() <= max(LARGEST * len(labels), 2)
        parts = _folds(labels, groups, near, what) if small or kind == "exact" else None
        if parts is not None and (kind == "exact" or _sound(labels, parts, held)):
            return parts, f", {count} {kind} {'copy' if count == 1 else 'copies'} kept on one side{lost}"
        lost = f" ({_copies(near)} alike by their hash are not: too many to be split)" if not lost else lost
    raise DataError(f"{what}: {count} of {len(labels)} images are exact copies of others. Too few are left to be split, add some.")


def _copies(cluster: np.ndarray) -> int:
    """Return the number of images beyond the first of each cluster."""
    return len(cluster) - len(np.unique(cluster))


def _folds(labels: np.ndarray, groups: np.ndarray | None, cluster: np.ndarray, what: str) -> list[np.ndarray] | None:
    """Return folds that keep clusters and groups whole; None where there are too few to be split."""
    try:
        if groups is not None:
            return stratified_parts(labels, merged(groups, cluster), what=what)
        _, first, place = np.unique(cluster, return_index=True, return_inverse=True)  # one image of each cluster speaks for it
        return [np.flatnonzero(np.isin(place, part)) for part in stratified_parts(labels[first], None, what=what)]
    except DataError:
        return None


def _sound(labels: np.ndarray, parts: list[np.ndarray], held: list[int]) -> bool:
    """Return True where every fold has images, and every class some outside the held-out folds."""
    rest = np.concatenate([part for k, part in enumerate(parts) if k not in held])
    if labels.ndim == 2:
        return all(len(part) for part in parts) and bool((labels[rest].any(axis=0) == labels.any(axis=0)).all())
    return all(len(part) for part in parts) and set(labels[rest]) == set(labels)
