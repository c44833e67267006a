"""A trained network that takes images and gives probabilities. The one preprocessing of files, arrays and served requests alike."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from study.datasets.cache import square
from study.datasets.imagefiles import decode_file, to_array
from study.errors import DataError
from study.files import Folder
from study.metrics import softmax
from study.networks.kept import Kept, load
from study.networks.timm_model import as_timm
from study.training.augment import plain
from study.training.device import Device

BATCH = 64


class Predictor:
    """A trained network on the best device here, in evaluation mode; `classes` names the columns of what it gives, `kept` says how it was made."""

    def __init__(self, kept: Kept, model: nn.Module) -> None:
        self.kept, self.where = kept, Device.best(kept.precision)
        self.model = self.where.place(model).eval()
        self.classes, self.channels = kept.classes, kept.channels
        settings = as_timm(model).default_cfg
        self.mean, self.std = tuple(settings["mean"]), tuple(settings["std"])

    @classmethod
    def from_folder(cls, folder: str | Path | Folder, **expected: Any) -> "Predictor":
        """The best checkpoint of a trial: `folder` is the trial's own, or its `best` folder. Raises ConfigError."""
        return cls(*load(folder if isinstance(folder, Folder) else Folder(str(folder)), **expected))

    @torch.no_grad()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 1 or 3] of any size -> float32 [N, classes]."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise DataError(f"images must be uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}.")
        rows = []
        for start in range(0, len(images), BATCH):
            raw = torch.from_numpy(np.stack([self.prepare(image) for image in images[start : start + BATCH]])).to(self.where.device)
            with self.where.autocast():
                rows.append(self.model(plain(raw, size=self.kept.image_size, mean=self.mean, std=self.std)).float().cpu())
        out: np.ndarray = torch.cat(rows).numpy() if rows else np.zeros((0, len(self.classes)), np.float32)
        return out

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 1 or 3] of any size -> probabilities float32 [N, classes]."""
        return softmax(self.logits(images).astype(np.float64)).astype(np.float32)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 1 or 3] -> uint8 [S, S, channels] as training saw images: short side to S, then the centre."""
        if image.shape[-1] != self.channels:
            image = to_array(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), self.channels)
        return square(image, self.kept.stored_side)

    def read(self, path: str) -> np.ndarray:
        """An image file as `prepare` gives it. Raises DataError naming it."""
        return self.prepare(decode_file(Path(path), self.channels))
