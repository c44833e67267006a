"""The interface of a data set: a table of the files found on disk, with nothing decoded yet."""

import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from study.console.text import shown
from study.datasets.stratify import iterative_parts
from study.errors import DataError

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)  # as `ImageTable.split` has them
SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTable:
    """Images by position; every array has the same index."""

    name: str
    classes: tuple[str, ...]  # display names; index = label
    ids: tuple[str, ...]  # stable name per image: file name, or "fer2013.csv:17" (line number)
    labels: np.ndarray  # int64 [N]; bool [N, C] where an image may have several labels, or none
    split: np.ndarray  # int8 [N]: 0 train, 1 val, 2 test, -1 unused
    groups: np.ndarray | None = None  # int64 [N]: session or identity, where the data set has them
    form: str  # what was found, in words
    fingerprint: str  # of the images' content identity, whatever the splits: the pixel cache is shared by them
    decode: Callable[[int], np.ndarray]  # -> uint8 [H, W, channels]; raises DataError naming the file
    policy: Literal["mild", "strong"]  # augmentation
    channels: int  # 1 or 3
    ordered: bool = False  # its classes stand from the lowest to the highest
    native_size: int  # longest short side among the images, in pixels: caches never upsample
    sizes: np.ndarray | None = None  # int64 [N, 2], height and width of each image, where they were looked at
    tiles: tuple[int, int] = (1, 1)  # rows and columns that each image is cut into; a row of this table is an image all the same
    pool: str = "mean"  # of the probabilities of an image's tiles: mean, or max
    ignored: tuple[tuple[str, str], ...] = ()  # (name, reason) of every file or folder left out
    metadata: "Metadata | None" = None
    soft: np.ndarray | None = None  # float32 [N, C], rows sum to 1: training's targets where annotators voted; labels stay what is scored
    second: np.ndarray | None = (
        None  # int64 [N]: what later annotators say, -1 where nothing; where it differs from a label, that is disputed
    )
    weights: np.ndarray | None = None  # float32 [N], of mean 1 over train: what an image counts in the training loss
    foreground: "Foreground | None" = None  # where its subject is, as far as pixels tell
    folds: int = 1  # test splits that it can be cut into, of which no two share an image; 1 where the test split is given
    contents: tuple[str, ...] | None = None  # what each image shows, in the digits of `datasets.contents`, where it was looked at already

    @property
    def several(self) -> bool:
        """Return whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    @functools.cached_property
    def kinds(self) -> np.ndarray:
        """Return int64 [N], the label of each image, or the number of the combination of labels that it has."""
        return np.unique(self.labels, axis=0, return_inverse=True)[1].reshape(-1) if self.several else self.labels

    def of_class(self, number: int) -> np.ndarray:
        """Return bool [N]: the images of a class, or with a label."""
        own: np.ndarray = self.labels[:, number] if self.several else self.labels == number
        return own

    def called(self, row: int) -> str:
        """Return the name of an image's class, or of its labels."""
        if not self.several:
            return self.classes[self.labels[row]]
        return " + ".join(self.classes[k] for k in np.flatnonzero(self.labels[row])) or "no label"

    def largest_side(self, fit: str) -> int:
        """Return the side in pixels of the largest square that a tile fills without enlargement, whole ("pad", "stretch") or by its
        middle."""
        if self.sizes is None or (fit == "square" and self.tiles == (1, 1)):
            return self.native_size
        parts = -(-self.sizes // np.array(self.tiles))
        return int((parts.min(axis=1) if fit == "square" else parts.max(axis=1)).max())

    def of(self, split: int) -> "tuple[int, np.ndarray | None]":
        """Return the number of images of a split, and their sessions where they have any."""
        own = self.split == split
        return int(own.sum()), None if self.groups is None else self.groups[own]

    def counts(self) -> dict[str, list[int]]:
        """Return the images per class for every split; an image of several labels counts for each."""
        if self.several:
            return {name: self.labels[self.split == k].sum(axis=0).tolist() for k, name in enumerate(SPLITS)}
        return {name: np.bincount(self.labels[self.split == k], minlength=len(self.classes)).tolist() for k, name in enumerate(SPLITS)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Metadata:
    """Facts of an image other than its pixels, for the metadata-only baseline."""

    seconds: np.ndarray  # float64 [N], time of recording
    instrument: np.ndarray  # int64 [N]


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreground:
    """The place of an image's subject, as far as the pixels tell it."""

    subject: str  # in words, e.g. "plant"
    mask: Callable[[np.ndarray], np.ndarray]  # uint8 [B, S, S, C] -> bool [B, S, S]
    without: tuple[int, ...] = ()  # labels of images that show none: a mask of them is nonsense


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """An entry of the catalogue."""

    name: str
    title: str
    about: str
    where: str  # what to put under --data
    policy: Literal["mild", "strong"]
    split_protocols: tuple[str, ...] = ("official",)
    folds: int = 1
    read: Callable[[Path | None, str, int], ImageTable]  # (root, protocol, fold) -> table


def display_name(raw: str) -> str:
    """Return the name in NFC with control characters and lone surrogates as escapes, at most 80 characters."""
    name = shown(unicodedata.normalize("NFC", raw))
    return name if len(name) <= 80 else name[:79] + "…"


def some(names: Sequence[str], most: int = 10) -> str:
    """Return the first of the names, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def left_out(ignored: Sequence[tuple[str, str]]) -> str:
    """Return the end of a form: how many files and folders were left out, by reason."""
    reasons = Counter(reason for _, reason in ignored).most_common()
    return "; left out: " + some([f"{count} ({shown(reason)})" for reason, count in reasons]) if reasons else ""


def spread(images: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of `images`, classes in proportion: sorted by class, every k-th is taken."""
    if len(images) <= most:
        return images
    by_class = images[np.argsort(labels[images], kind="stable")]
    return np.sort(by_class[np.linspace(0, len(images) - 1, most).round().astype(int)])


def astride(groups: np.ndarray, split: np.ndarray) -> int:
    """Return the number of groups with images in more than one split; images in no split do not count."""
    pairs = np.unique(np.stack([groups, split])[:, split >= 0], axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def kept_by_class(table: ImageTable, train_fraction: float) -> list[int]:
    """Return the number of training images of each class that a fraction keeps: at least one of every class that has any. Of images with
    several labels it is one number, of all of them."""
    if table.several:
        images = int((table.split == TRAIN).sum())
        return [max(round(images * train_fraction), min(images, 1))]
    counts = table.counts()["train"]
    return [max(round(n * train_fraction), min(n, 1)) for n in counts]


def subsample(table: ImageTable, train_fraction: float, seed: int = 0) -> ImageTable:
    """Return the table with a stratified part of its training split, another one for each `seed`.

    For one seed, a smaller fraction is a subset of a larger one. Every class keeps at least one image; images left out get split -1.
    """
    split = table.split.copy()
    order = np.random.Generator(np.random.Philox(key=[seed, 77])).permutation(len(split))
    for label, keep in enumerate(kept_by_class(table, train_fraction)):
        own = order[(split[order] == TRAIN) & (table.several | (table.kinds[order] == label))]
        split[own[keep:]] = -1
    return replace(table, split=split)


def with_validation(table: ImageTable, *, with_test: bool = False) -> ImageTable:
    """Return the table with its validation images as training images, so none are left to choose by. `with_test`: its test images too."""
    split = np.where((table.split == VAL) | (with_test & (table.split == TEST)), TRAIN, table.split).astype(table.split.dtype)
    weights = table.weights
    if weights is not None:  # of mean 1 over what is trained on
        weights = (weights / weights[split == TRAIN].mean()).astype(weights.dtype)
    return replace(table, split=split, weights=weights)


FOLDS, SHIFTS = 5, 4
"""The number of folds that we cut, and of validation splits among the other folds beside a test fold."""


def test_and_val(fold: int) -> tuple[int, int]:
    """Return (test, validation) fold of fold number `fold`.

    The usual validation fold is the next one. Number 5 s + k is fold k with the validation fold s further than usual.
    """
    shift, test = divmod(fold, FOLDS)
    return test, (test + 1 + shift) % FOLDS


def stratified_split(labels: np.ndarray, groups: np.ndarray | None, seed: int, fold: int = 0, *, what: str) -> np.ndarray:
    """Return int8 [N]: about 60 / 20 / 20 with the classes in proportion; a group never lies in two splits.

    `test_and_val` names the test and validation folds. Raises DataError naming `what` for too few images.
    """
    parts = stratified_parts(labels, groups, seed, what=what)
    split = np.zeros(len(labels), np.int8)
    test, val = test_and_val(fold)
    split[parts[test]], split[parts[val]] = TEST, VAL
    return split


def stratified_parts(labels: np.ndarray, groups: np.ndarray | None, seed: int = 0, *, what: str) -> list[np.ndarray]:
    """Return the positions of five folds with the classes, or the labels bool [N, L], in proportion, groups whole.

    Raises DataError naming `what` for too few to be split.
    """
    if groups is not None and (count := len(np.unique(groups))) < 5:
        raise DataError(f"{what} has {count} group{'s' * (count > 1)}. To be split it needs at least 5, for none may lie in two splits.")
    if labels.ndim == 2:
        return iterative_parts(labels, groups, FOLDS, seed)
    if (most := np.bincount(labels).max(initial=0)) < 5:
        raise DataError(f"{what}: no class has more than {most} images. To be split it needs at least 5, add some.")
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None:
        folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels)
    else:
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
    return [test for _, test in folds]
