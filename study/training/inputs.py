"""What the loop eats: batches of training images, and evaluation images, behind the frozen half of the network."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from study.backbones import Backbone
from study.config import TrialConfig
from study.datasets import open_dataset, subsample
from study.datasets.cache import pixels
from study.datasets.spec import ImageTable
from study.training.activations import ActivationStore, to_device
from study.training.augment import POLICIES, augment, plain, quantise
from study.training.split import Split

HEADROOM = 1.25  # images are stored this much larger than they are shown, so that crops keep their detail
RESIDENT_BYTES = 8e9  # on a GPU, data sets up to this size live in its memory

TRAIN, VAL, TEST = 0, 1, 2


class Inputs:
    """Training and validation images of one cell. The test split is not in here: nothing that trains can see it."""

    def __init__(self, config: TrialConfig, *, data: Path | None = None, cache: Path | None = None) -> None:
        cell, protocol = config.cell, config.protocol
        table = _opened(cell.dataset, cell.splits, data)
        self.table: ImageTable = subsample(table, cell.train_fraction) if cell.train_fraction < 1 else table
        self.cache = cache
        self.images = pixels(self.table, round(protocol.image_size * HEADROOM), cache)
        self.train = np.flatnonzero(self.table.split == TRAIN)
        self.val = np.flatnonzero(self.table.split == VAL)
        self.train_eval = _spread(self.train, self.table.labels, protocol.train_eval_images)
        self._labels = torch.from_numpy(self.table.labels.astype(np.int64))
        self._resident: Tensor | None = None
        self.device = torch.device("cpu")

    def place(self, device: torch.device) -> None:
        """Moves labels, and images where they fit, to the device."""
        self.device = device
        self._labels = self._labels.to(device)
        if device.type == "cuda" and self._resident is None and self.images.nbytes <= RESIDENT_BYTES:
            # test images are left out: rows no training code may touch stay zero
            resident = np.zeros_like(self.images)
            visible = np.concatenate([self.train, self.val])
            resident[visible] = self.images[visible]
            self._resident = torch.from_numpy(resident).to(device)

    def pixels_of(self, images: np.ndarray) -> Tensor:
        """uint8 [B, S, S, C] on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(images).to(self.device, non_blocking=True)]
        return torch.from_numpy(self.images[images]).to(self.device, non_blocking=True)

    def batches(self, seed: int, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """Positions into `train`, in an order that is a function of (seed, epoch); sizes differ by one at most."""
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(len(self.train))
        yield from np.array_split(order, steps)

    def targets(self, positions: np.ndarray) -> Tensor:
        return self._labels[torch.from_numpy(self.train[positions]).to(self.device)]

    def labels_of(self, images: np.ndarray) -> np.ndarray:
        return self.table.labels[images]

    def behind(self, model: Split, backbone: Backbone, config: TrialConfig, where: "object") -> "Features":
        return Features(inputs=self, model=model, backbone=backbone, config=config, where=where)


@dataclass(eq=False)
class Features:
    """Images as the trained half sees them: through the frozen half, from the activation store where one serves."""

    inputs: Inputs
    model: Split
    backbone: Backbone
    config: TrialConfig
    where: "object"

    def __post_init__(self) -> None:
        protocol = self.config.protocol
        self.reused = self.model.frozen is not None and protocol.views > 0
        folder = self.inputs.cache or _default_cache()
        self.store = ActivationStore(folder / "activations")
        self.strength = quantise(self.config.recipe.augmentation) if self.reused else self.config.recipe.augmentation
        self._views: dict[object, np.ndarray | None] = {}

    def train(self, positions: np.ndarray, epoch: int) -> Tensor:
        """Augmented images at `positions` of the training split. Stored views take turns: epoch e shows view e mod V."""
        view = (epoch - 1) % self.config.protocol.views + 1 if self.reused else epoch
        if self.reused:
            rows = self._view("train", self.inputs.train, view)
            if rows is not None:
                return to_device(rows[positions], self.inputs.device)
        return self._through(self.inputs.train[positions], view)

    def train_plain(self, positions: np.ndarray) -> Tensor:
        return self._plain("train_eval", self.inputs.train_eval, positions)

    def val(self, positions: np.ndarray) -> Tensor:
        return self._plain("val", self.inputs.val, positions)

    def _plain(self, split: str, images: np.ndarray, positions: np.ndarray) -> Tensor:
        if self.reused and (rows := self._view(split, images, None)) is not None:
            return to_device(rows[positions], self.inputs.device)
        return self._through(images[positions], None)

    def _view(self, split: str, images: np.ndarray, view: int | None) -> np.ndarray | None:
        if (split, view) not in self._views:
            protocol, table = self.config.protocol, self.inputs.table
            key: dict[str, object] = {
                "weights": self.backbone.fingerprint,
                "backbone": self.backbone.name,
                "cut": self.model.cut,
                "pixels": table.fingerprint,
                "images": _digest(images),
                "size": protocol.image_size,
                "precision": protocol.precision,
                "device": self.inputs.device.type,
            }
            if view is not None:
                key |= {"policy": table.policy, "strength": self.strength, "seed": self.config.seed, "view": view}
            self._views[split, view] = self.store.rows(key, len(images), lambda p: self._through(images[p], view))
        return self._views[split, view]

    def _through(self, images: np.ndarray, view: int | None) -> Tensor:
        shown = dict(size=self.config.protocol.image_size, mean=self.backbone.mean, std=self.backbone.std)
        raw = self.inputs.pixels_of(images)
        if view is None:
            batch = plain(raw, **shown)  # type: ignore[arg-type]
        else:
            batch = augment(
                raw,
                images,
                policy=POLICIES[self.inputs.table.policy],
                strength=self.strength,
                seed=self.config.seed,
                epoch=view,
                **shown,  # type: ignore[arg-type]
            )
        if self.model.frozen is None:
            return batch
        with self.where.autocast():  # type: ignore[attr-defined]
            return self.model.activations(batch).float()


@functools.lru_cache(maxsize=4)
def _opened(name: str, splits: str, root: Path | None) -> ImageTable:
    """Headers and labels are read once a process: a worker trains one trial of a study after another."""
    return open_dataset(name, splits=splits, root=root)


def _default_cache() -> Path:
    from study.datasets.cache import cache_folder

    return cache_folder()


def _spread(images: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of `images`, classes in proportion: sorted by class, every k-th is taken."""
    if len(images) <= most:
        return images
    by_class = images[np.argsort(labels[images], kind="stable")]
    return np.sort(by_class[np.linspace(0, len(images) - 1, most).round().astype(int)])


def _digest(images: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(images, dtype=np.int64).tobytes()).hexdigest()[:16]
