"""The loop's inputs: batches of training images, and evaluation images, behind the frozen half of the network."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from study.datasets.cache import framing_mark
from study.datasets.spec import TRAIN, VAL, ImageTable, spread
from study.datasets.visible import Visible
from study.errors import ConfigError
from study.inference.device import Device
from study.inference.pixels import plain
from study.inference.softmax import over_tiles
from study.networks.cutting.halves import Split
from study.networks.pretrained import Backbone
from study.question.trial_config import TrialConfig
from study.training.activations import ActivationStore, to_device
from study.training.augment import POLICIES, augment, quantise
from study.training.class_weights import class_weights
from study.training.mixup import Blend
from study.training.prefetch import Ahead
from study.training.sampling import draw_order

RESIDENT_BYTES = 8e9  # on a GPU, data sets up to this size live in its memory


class Inputs:
    """Training and validation images of one cell. `images` holds no others, so training cannot see the test split."""

    def __init__(self, images: Visible, config: TrialConfig, cache: Path) -> None:
        self.images, self.table, self.cache = images, images.table, cache
        self.train = np.flatnonzero(self.table.split == TRAIN)
        self.val = np.flatnonzero(self.table.split == VAL)
        self.tiles = images.tiles
        kinds = self.table.kinds
        self.train_eval = self._whole(spread(self.train[:: self.tiles], kinds, config.protocol.train_eval_images))
        first, classes = self.train[:: self.tiles], len(self.table.classes)
        if self.table.several and config.protocol.wrong_labels:
            raise ConfigError(f"{self.table.name}: wrong_labels is of images with one label, and these have several. Leave it out.")
        wrong, told = made_wrong(first, kinds, classes, config.protocol.wrong_labels, config.seed)
        wrong, told = self._whole(wrong), np.repeat(told[:: self.tiles], self.tiles)  # the tiles of an image are told the same
        self._told = told[self.train]
        # as training is told; those of scores stay true
        self._targets = torch.from_numpy(_targets(self.table, wrong, told))
        self._weights = None if self.table.weights is None else torch.from_numpy(self.table.weights.astype(np.float32))
        self.doubtful = _doubtful(self.table, self.train, wrong, told, config.protocol.train_eval_images)
        self._resident: Tensor | None = None
        self._ahead: Ahead | None = None
        self.thresholds: np.ndarray | None = None  # [C] of labels' logits, where images have several, as validation images last gave them
        self.device = torch.device("cpu")

    def _whole(self, first: np.ndarray) -> np.ndarray:
        """Return all rows of the images whose first rows are given, in order."""
        return (first[:, None] + np.arange(self.tiles)).ravel()

    def pictures(self, logits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (logits [n, C], labels [n]) of the images that `rows`, all tiles of each, are about: what is scored."""
        return over_tiles(logits, self.tiles, self.table.pool, self.table.several), self.labels_of(rows[:: self.tiles])

    def place(self, device: torch.device) -> None:
        """Move labels, and images where they fit, to the device. Images that do not fit are fetched a batch ahead."""
        self.device = device
        self._targets = self._targets.to(device)
        self._weights = None if self._weights is None else self._weights.to(device)
        if device.type != "cuda" or self._resident is not None or self._ahead is not None:
            return
        if self.images.num_bytes > RESIDENT_BYTES:
            self._ahead = Ahead(self.images.pixels, device)
        else:
            self._resident = torch.from_numpy(self.images.pixels(np.arange(len(self.table.labels)))).to(device)

    def fetch(self, rows: np.ndarray) -> None:
        """Start to fetch these images, which are needed next."""
        if self._ahead is not None:
            self._ahead.fetch(rows)

    def pixels_of(self, rows: np.ndarray) -> Tensor:
        """Return uint8 [B, S, S, C] on the device."""
        if self._ahead is not None and (fetched := self._ahead.take(rows)) is not None:
            return fetched
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        return torch.from_numpy(self.images.pixels(rows)).to(self.device, non_blocking=True)

    def batches(self, seed: int, turn: int, steps: int, balance: float = 0.0) -> Iterator[np.ndarray]:
        """Yield positions into `train`, in an order that is a function of (seed, turn); sizes differ by one at most. `turn`: the pass,
        from 1.

        `balance` above 0: equally many positions, with classes nearer to equally often, at 1 equally (`draw_order`), by the training
        labels.
        """
        rng = np.random.Generator(np.random.Philox(key=[seed, turn]))
        yield from np.array_split(draw_order(self._told, rng, balance), steps)

    def targets(self, positions: np.ndarray) -> Tensor:
        """Return int64 [B], or float32 [B, C] where annotators voted, or images have several labels."""
        return self._targets[torch.from_numpy(self.train[positions]).to(self.device)]

    def image_weights(self, positions: np.ndarray) -> Tensor | None:
        """Return the weight of each image in the loss, float32 [B] on the device; None: all weigh the same."""
        return None if self._weights is None else self._weights[torch.from_numpy(self.train[positions]).to(self.device)]

    def class_weights(self, beta: float) -> Tensor | None:
        """Return the class weights float32 [C] on the device, by the training labels; None: all weigh the same."""
        voted, classes = self._targets.ndim == 2, len(self.table.classes)
        images = self._targets.cpu()[self.train].sum(0).double().numpy() if voted else np.bincount(self._told, minlength=classes)
        weights = class_weights(images, beta)
        return None if weights is None else torch.from_numpy(weights).to(self.device)

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        return self.table.labels[rows]

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the weights of images [n] in the training loss; None where all weigh the same."""
        return None if self.table.weights is None else self.table.weights[rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Doubtful:
    """Training images whose label is wrong by design, or disputed by later annotators."""

    rows: np.ndarray  # [n] positions of the images
    told: np.ndarray  # [n] as training is told
    true: np.ndarray  # [n] as they are, or as the others say


def _targets(table: ImageTable, wrong: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Return int64 [N]; float32 [N, C] where there are votes, a wrong label then being unanimous, or several labels."""
    if table.several:
        return table.labels.astype(np.float32)
    if table.soft is None:
        return told.astype(np.int64)
    soft = table.soft.copy()
    soft[wrong] = np.eye(len(table.classes), dtype=np.float32)[told[wrong]]
    return soft


def _doubtful(table: ImageTable, train: np.ndarray, wrong: np.ndarray, told: np.ndarray, most: int) -> dict[str, Doubtful]:
    """Return "wrong" and "disputed" images by name, where there are any; at most `most` disputed ones, which are evaluated every epoch."""
    found = {}
    if len(wrong):
        found["wrong"] = Doubtful(rows=wrong, told=told[wrong], true=table.labels[wrong])
    if table.second is not None:
        others = table.second[train]
        rows = np.setdiff1d(train[(others >= 0) & (others != table.labels[train])], wrong)
        if len(rows):
            rows = spread(rows, table.labels, most)
            found["disputed"] = Doubtful(rows=rows, told=table.labels[rows], true=table.second[rows])
    return found


def made_wrong(train: np.ndarray, labels: np.ndarray, classes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images that get a wrong label, sorted, and all labels as training sees them.

    Wrong labels are uniform among the other classes and a function of the seed alone, so the same for every strategy (Zhang et al. 2017,
    arXiv 1611.03530).
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 911]))
    wrong = np.sort(rng.permutation(train)[: round(share * len(train))])
    told = labels.copy()
    told[wrong] = (labels[wrong] + rng.integers(1, max(classes, 2), size=len(wrong))) % classes
    return wrong, told


class Features:
    """Images as the trained half sees them: through the frozen half, from the activation store where possible."""

    def __init__(self, inputs: Inputs, model: Split, backbone: Backbone, config: TrialConfig, where: Device, reuse: bool = True) -> None:
        """Set up the features. `reuse=False`: the frozen half is not the pretrained one any more, so the store, keyed by its weights, is
        not used."""
        self.inputs, self.model, self.backbone, self.config, self.where = inputs, model, backbone, config, where
        self.stored = reuse and model.frozen is not None  # what is not augmented: the same in every epoch and every trial
        could = self.stored and config.protocol.views > 0
        self.reused = could and not config.recipe.blends
        self.why_not = "mixup and cutmix blend pixels, and no two blends are alike" if could and not self.reused else ""
        self.store = ActivationStore(inputs.cache / "activations")
        self.strength = quantise(config.recipe.augmentation) if self.reused else config.recipe.augmentation
        self._views: dict[object, np.ndarray | None] = {}

    def train(self, positions: np.ndarray, turn: int) -> Tensor:
        """Return augmented images at `positions` of the training split on pass `turn`, from 1. Stored views alternate: pass p shows view
        p mod V."""
        view = (turn - 1) % self.config.protocol.views + 1 if self.reused else turn
        if self.reused:
            rows = self._view("train", self.inputs.train, view)
            if rows is not None:
                return to_device(rows[positions], self.inputs.device)
        return self._through(self.inputs.train[positions], view)

    def blended(self, positions: np.ndarray, partners: np.ndarray, turn: int, blend: Blend) -> Tensor:
        """Return each image as `train` does, blended with its partner, both as that pass shows them."""
        both, where = np.unique(np.concatenate([positions, partners]), return_inverse=True)
        seen = self._seen(self.inputs.train[both], turn)
        own, other = (seen[torch.from_numpy(w).to(seen.device)] for w in np.split(where, 2))
        return self._behind(blend.images(own, other).contiguous(memory_format=torch.channels_last))

    def fetch(self, pairs: np.ndarray) -> None:
        """Start to fetch the next images and their partners [n, 2], positions of the training split. Stored activations need no images."""
        if not self.reused:
            self.inputs.fetch(self.inputs.train[np.unique(pairs) if self.config.recipe.blends else pairs[:, 0]])

    def train_plain(self, positions: np.ndarray) -> Tensor:
        return self._plain("train_eval", self.inputs.train_eval, positions)

    def train_unaugmented(self, positions: np.ndarray) -> Tensor:
        """Return training images without augmentation, at `positions` of the training split."""
        return self._plain("train_plain", self.inputs.train, positions)

    def doubtful(self, name: str, positions: np.ndarray) -> Tensor:
        return self._plain(name, self.inputs.doubtful[name].rows, positions)

    def val(self, positions: np.ndarray) -> Tensor:
        return self._plain("val", self.inputs.val, positions)

    def _plain(self, split: str, images: np.ndarray, positions: np.ndarray) -> Tensor:
        if self.stored and (rows := self._view(split, images, None)) is not None:
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
            if mark := framing_mark(protocol.fit, table.tiles):
                key["framing"] = mark
            if view is not None:
                key |= {"policy": table.policy, "strength": self.strength, "seed": self.config.seed, "view": view}
            exact = not self.reused  # where nothing else is stored, scores must not know of the store
            self._views[split, view] = self.store.rows(key, len(images), lambda p: self._through(images[p], view), exact=exact)
        return self._views[split, view]

    def _through(self, images: np.ndarray, view: int | None) -> Tensor:
        return self._behind(self._seen(images, view))

    def _seen(self, images: np.ndarray, view: int | None) -> Tensor:
        """Return float32 [B, 3, S, S], normalised; augmented where there is a view."""
        size, mean, std = self.config.protocol.image_size, self.backbone.mean, self.backbone.std
        raw = self.inputs.pixels_of(images)
        if view is None:
            return plain(raw, size=size, mean=mean, std=std)
        return augment(
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

    def _behind(self, batch: Tensor) -> Tensor:
        """Return the output of the frozen half for a batch, float32."""
        if self.model.frozen is None:
            return batch
        with self.where.autocast():
            return self.model.activations(batch).float()


def _digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, dtype=np.int64).tobytes()).hexdigest()[:16]
