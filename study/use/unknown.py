"""Pictures that may show none of the classes: how near their features are to training images, in a network not told the classes.

The network is the line to beat's, whose features are the pretrained ones. So a class can be left out exactly, without training
anything: its images leave the training images, and the others set the threshold. Nearness is the cosine to the K-th nearest training
image (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"). The threshold is a conformal rank of validation
images (Laxhammar and Falkman 2015), so that of pictures like these, no more than one in twenty is mistaken for something else.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.errors import ConfigError
from study.inference.sets import fewest_images, least_probability
from study.use.neighbours import features
from study.use.predictor import Predictor

K = 3
LEVEL = 0.95  # share of pictures of the classes that are not mistaken
ENOUGH = 0.5  # of the images of a class that was left out, the mean over classes: below it nobody is told that a picture is no such one
FEWEST = 5  # validation images of a class that is left out
NAME = "known_features.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Features of length 1, float32 [N, D], and labels [N], of training and of validation images."""

    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray

    def as_bytes(self) -> bytes:
        """Half as precise, in NumPy's format."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            train=self.train.astype(np.float16),
            train_labels=self.train_labels,
            val=self.val.astype(np.float16),
            val_labels=self.val_labels,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Known":
        """Raises ValueError for anything else."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return cls(**{name: file[name].astype(np.float32) if name in ("train", "val") else file[name] for name in cls.__annotations__})


def nearness(those: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features [N, D] against [M, D] -> the cosine to the K-th nearest [N]."""
    k = min(K, len(train))
    found: np.ndarray = np.partition(those @ train.T, -k, axis=1)[:, -k]
    return found


def recognised(known: Known) -> dict[int, float]:
    """Return, for each class with enough images, the share of its validation images told "none of these" when the class is left out."""
    out = {}
    for k in np.unique(known.val_labels).tolist():
        own, others = known.val[known.val_labels == k], known.val[known.val_labels != k]
        train = known.train[known.train_labels != k]
        if len(own) < FEWEST or not len(train) or not len(others):
            continue
        least = least_probability(nearness(others, train), LEVEL)
        if least is not None:
            out[int(k)] = float((nearness(own, train) < least).mean())
    return out


class Unknown:
    """Tells pictures that lie farther from all training images than nearly all validation images do."""

    def __init__(self, network: Predictor, known: Known, classes: Sequence[str]) -> None:
        self.network, self.known, self.classes = network, known, list(classes)
        self.least = least_probability(nearness(known.val, known.train), LEVEL)
        self.recognised: Mapping[int, float] = recognised(known)

    @property
    def mean(self) -> float:
        """Share of the images of a class that was left out which are recognised, the mean over classes; NaN where none could be."""
        return float(np.mean([*self.recognised.values()])) if self.recognised else float("nan")

    @property
    def speaks(self) -> bool:
        """True where there is a threshold, and a measure of what it does."""
        return self.least is not None and bool(self.recognised)

    @property
    def trusted(self) -> bool:
        """True where a picture that is not told may be called one of the classes."""
        return self.speaks and self.mean >= ENOUGH

    @property
    def text(self) -> str:
        """Return what was measured, and with that what it says."""
        if self.least is None:
            return f'"none of these" is off: it needs {fewest_images(LEVEL)} validation images, and there are {len(self.known.val)}'
        if not self.recognised:
            return (
                f'"none of these" is off: leaving a class out needs {FEWEST} validation images of it and {fewest_images(LEVEL)} '
                f"of the others, and no class of the {len(self.known.val)} validation images leaves so many"
            )
        worst = min(self.recognised, key=lambda k: self.recognised[k])
        found = (
            f"with each class left out in turn, {100 * self.mean:.0f} % of its images are recognised as none of the others "
            f"(least: {self.classes[worst]}, {100 * self.recognised[worst]:.0f} %)"
        )
        mistaken = f"of pictures of the classes, {100 * (1 - LEVEL):.0f} % are mistaken for it"
        if self.trusted:
            return f'"none of these": {found}; {mistaken}'
        return f'"none of these" says yes or nothing, since a new kind that resembles them is mostly missed: {found}; {mistaken}'

    def of(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, C] as `network.prepare` gives them -> bool [N]: none of the classes. Raises ConfigError where it is off."""
        if self.least is None or not self.speaks:
            raise ConfigError(f"{self.text}.")
        found: np.ndarray = nearness(features(self.network, images), self.known.train) < self.least
        return found

    def of_files(self, paths: Sequence[str]) -> np.ndarray:
        """Image files -> bool [N]. Raises DataError naming one that cannot be read."""
        return self.of(np.stack([self.network.read(path) for path in paths]))
