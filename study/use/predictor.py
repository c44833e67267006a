"""A trained network as a function from images to probabilities: the network of a trial, and the preprocessing of `study.inference`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from study.datasets.imagefiles import decode_file
from study.errors import ConfigError, DataError
from study.inference.classifier import Classifier
from study.inference.softmax import pooled, probabilities, sigmoid
from study.networks.kept import Kept, load
from study.scoring.decide import Deciding
from study.storage.folder import Folder, as_text

LIKELIEST = Deciding()
READ = "of a file, predictor.read(FILE)[None] is that"


class Predictor:
    """A trained network on the best device here, in evaluation mode. `classes` names its output columns, `kept` says how it was made.

    `temperature`: divides its logits before they become probabilities; 1 leaves them as trained.
    `deciding`: the rule by which probabilities become an answer.
    """

    def __init__(self, kept: Kept, model: nn.Module, temperature: float = 1.0, deciding: Deciding = LIKELIEST) -> None:
        self.deciding = deciding
        self.kept, self.classes, self.channels, self.temperature = kept, kept.classes, kept.channels, temperature
        self.classifier = Classifier(
            model,
            size=kept.image_size,
            side=kept.side,
            channels=kept.channels,
            precision=kept.precision,
            fit=kept.fit,
            tiles=(kept.tiles[0], kept.tiles[1]),
            pool=kept.pool,
            several=kept.several,
        )
        self.where, self.model = self.classifier.where, self.classifier.model
        self.mean, self.std = self.classifier.mean, self.classifier.std

    @classmethod
    def from_folder(
        cls,
        folder: str | Path | Folder,
        temperature: float = 1.0,
        deciding: Deciding = LIKELIEST,
        thresholds: Sequence[float] = (),
        **expected: Any,
    ) -> "Predictor":
        """Return the network that a trial kept. `folder` is the trial's own, or its `best` folder.

        `thresholds` are those of labels' logits, where it keeps none itself. Raises ConfigError.
        """
        kept, model = load(folder if isinstance(folder, Folder) else Folder(str(folder)), **expected)
        if thresholds and not kept.thresholds:
            kept = replace(kept, thresholds=list(thresholds))
        return cls(kept, model, temperature, deciding)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits float32 [N, classes] of uint8 [N, H, W, 1, 3 or 4] of any size (4: with transparency). Raises DataError."""
        if not isinstance(images, np.ndarray):
            raise DataError(f"images must be uint8 [N, H, W, 1, 3 or 4], not {_form(images)}; {READ}.")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
            raise DataError(f"images must be uint8 [N, H, W, 1, 3 or 4], not {images.dtype} {list(images.shape)}.")
        return self.classifier.logits(list(images))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, classes] of uint8 [N, H, W, 1, 3 or 4] of any size.

        Raises ConfigError where the network gives no numbers.
        """
        shares = probabilities(self.logits(images) / self.temperature, self.kept.several)
        if np.isnan(shares).any():
            raise ConfigError(
                f"the network of trial {self.kept.trial} gives no numbers for a picture (NaN): its weights are damaged. Restore its files "
                "from where they came, or name another network."
            )
        return shares

    @property
    def several(self) -> bool:
        """Return whether an image may have several of the classes, as labels."""
        return self.kept.several

    def named(self, shares: np.ndarray) -> np.ndarray:
        """Return the places [N] of the classes to predict from probabilities [N, classes].

        For several labels they are bool [N, classes], those above their thresholds.
        """
        if not self.several:
            return self.deciding(shares)
        own: np.ndarray = shares > sigmoid(np.array(self.kept.thresholds or [0.0] * len(self.classes)) / self.temperature)
        return own

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return the image as training saw images, uint8 [S, S, channels]; with several tiles [rows * S, columns * S, channels].

        `image`: uint8 [H, W, 1, 3 or 4]. Raises DataError for other arrays.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
            raise DataError(f"an image must be uint8 [H, W, 1, 3 or 4], not {_form(image)}; {READ}.")
        return self.classifier.prepare(image)

    def read(self, path: str | Path) -> np.ndarray:
        """Return an image file as `prepare` does. Raises DataError naming it, ConfigError for what is no path."""
        return self.prepare(decode_file(Path(as_text(path)), self.channels))


def _form(image: object) -> str:
    return f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__


class Ensemble(Predictor):
    """Several networks as one: the mean of their probabilities, then one temperature, at as many times the cost."""

    def __init__(
        self,
        members: Sequence[Predictor],
        temperature: float = 1.0,
        deciding: Deciding = LIKELIEST,
        thresholds: Sequence[float] = (),
    ) -> None:
        first = members[0]
        kept = replace(first.kept, thresholds=list(thresholds)) if thresholds else first.kept
        super().__init__(kept, first.model, temperature, deciding)
        self.members = list(members)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the log of the mean probabilities, float64 [N, classes], for images as a single network takes them."""
        return pooled([member.logits(images) for member in self.members], self.kept.several)
