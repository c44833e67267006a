"""What the loop eats: batches of training images, and evaluation images, behind the frozen half of the network."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from study.config import TrialConfig
from study.datasets.spec import TRAIN, VAL, spread
from study.datasets.visible import Visible
from study.inference.device import Device
from study.inference.pixels import plain
from study.networks.pretrained import Backbone
from study.networks.split import Split
from study.training.activations import ActivationStore, to_device
from study.training.augment import POLICIES, augment, quantise

RESIDENT_BYTES = 8e9  # on a GPU, data sets up to this size live in its memory


class Inputs:
    """Training and validation images of one cell. `images` holds no others: nothing that trains can see the test split."""

    def __init__(self, images: Visible, config: TrialConfig, cache: Path) -> None:
        self.images, self.table, self.cache = images, images.table, cache
        self.train = np.flatnonzero(self.table.split == TRAIN)
        self.val = np.flatnonzero(self.table.split == VAL)
        self.train_eval = spread(self.train, self.table.labels, config.protocol.train_eval_images)
        self.wrong, given = made_wrong(self.train, self.table.labels, len(self.table.classes), config.protocol.wrong_labels, config.seed)
        self._labels = torch.from_numpy(given.astype(np.int64))  # as training is told; those of scores stay true
        self._resident: Tensor | None = None
        self.device = torch.device("cpu")

    def place(self, device: torch.device) -> None:
        """Moves labels, and images where they fit, to the device."""
        self.device = device
        self._labels = self._labels.to(device)
        if device.type == "cuda" and self._resident is None and self.images.num_bytes <= RESIDENT_BYTES:
            self._resident = torch.from_numpy(self.images.pixels(np.arange(len(self.table.labels)))).to(device)

    def pixels_of(self, rows: np.ndarray) -> Tensor:
        """uint8 [B, S, S, C] on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        return torch.from_numpy(self.images.pixels(rows)).to(self.device, non_blocking=True)

    def batches(self, seed: int, turn: int, steps: int) -> Iterator[np.ndarray]:
        """Positions into `train`, in an order that is a function of (seed, turn); sizes differ by one at most. `turn`: which pass, from 1."""
        order = np.random.Generator(np.random.Philox(key=[seed, turn])).permutation(len(self.train))
        yield from np.array_split(order, steps)

    def targets(self, positions: np.ndarray) -> Tensor:
        return self._labels[torch.from_numpy(self.train[positions]).to(self.device)]

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        return self.table.labels[rows]

    def given(self, rows: np.ndarray) -> np.ndarray:
        """Labels as training was told them, wrong ones too."""
        told: np.ndarray = self._labels.cpu().numpy()[rows]
        return told


def made_wrong(train: np.ndarray, labels: np.ndarray, classes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training images get a wrong label, sorted, and all labels as they are told: uniform among the other classes, a function of the
    seed alone, so the same for every strategy (Zhang et al. 2017, arXiv 1611.03530)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 911]))
    wrong = np.sort(rng.permutation(train)[: round(share * len(train))])
    told = labels.copy()
    told[wrong] = (labels[wrong] + rng.integers(1, max(classes, 2), size=len(wrong))) % classes
    return wrong, told


class Features:
    """Images as the trained half sees them: through the frozen half, from the activation store where one serves."""

    def __init__(self, inputs: Inputs, model: Split, backbone: Backbone, config: TrialConfig, where: Device, reuse: bool = True) -> None:
        """`reuse=False`: the frozen half is not the pretrained one any more, so the store, which goes by its weights, serves nobody."""
        self.inputs, self.model, self.backbone, self.config, self.where = inputs, model, backbone, config, where
        self.reused = reuse and model.frozen is not None and config.protocol.views > 0
        self.store = ActivationStore(inputs.cache / "activations")
        self.strength = quantise(config.recipe.augmentation) if self.reused else config.recipe.augmentation
        self._views: dict[object, np.ndarray | None] = {}

    def train(self, positions: np.ndarray, turn: int) -> Tensor:
        """Augmented images at `positions` of the training split on pass `turn`, from 1. Stored views take turns: pass p shows view p mod V."""
        view = (turn - 1) % self.config.protocol.views + 1 if self.reused else turn
        if self.reused:
            rows = self._view("train", self.inputs.train, view)
            if rows is not None:
                return to_device(rows[positions], self.inputs.device)
        return self._through(self.inputs.train[positions], view)

    def train_plain(self, positions: np.ndarray) -> Tensor:
        return self._plain("train_eval", self.inputs.train_eval, positions)

    def wrong(self, positions: np.ndarray) -> Tensor:
        return self._plain("wrong", self.inputs.wrong, positions)

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
                "images": _digest(self.inputs.images.numbers[images]),
                "size": protocol.image_size,
                "precision": protocol.precision,
                "device": self.inputs.device.type,
            }
            if view is not None:
                key |= {"policy": table.policy, "strength": self.strength, "seed": self.config.seed, "view": view}
            self._views[split, view] = self.store.rows(key, len(images), lambda p: self._through(images[p], view))
        return self._views[split, view]

    def _through(self, images: np.ndarray, view: int | None) -> Tensor:
        size, mean, std = self.config.protocol.image_size, self.backbone.mean, self.backbone.std
        raw = self.inputs.pixels_of(images)
        if view is None:
            batch = plain(raw, size=size, mean=mean, std=std)
        else:
            batch = augment(
                raw,
                self.inputs.images.numbers[images],
                policy=POLICIES[self.inputs.table.policy],
                strength=self.strength,
                seed=self.config.seed,
                epoch=view,
                size=size,
                mean=mean,
                std=std,
            )
        if self.model.frozen is None:
            return batch
        with self.where.autocast():
            return self.model.activations(batch).float()


def _digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, dtype=np.int64).tobytes()).hexdigest()[:16]
