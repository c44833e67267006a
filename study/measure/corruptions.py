"""A measurement of robustness to worse images: seven kinds of corruption, three severities, relative to clean images.

The idea is Hendrycks and Dietterich's (2019, arXiv 1903.12261); kinds and strengths are those of torchvision's transforms, so figures
compare strategies here, not with other benchmarks.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from study.datasets.spec import VAL
from study.measure.base import Finished, Measurement
from study.measure.features import chosen, scores

MOST_IMAGES = 128  # 22 passes over them


class Corruptions(Measurement):
    """Accuracy and macro-F1 by kind and severity (0: clean), on the same validation images."""

    name: ClassVar[str] = "corruptions"
    splits: ClassVar[tuple[str, ...]] = ("val",)

    def rows(self, finished: Finished) -> pa.Table:
        images = chosen(finished.table, VAL, MOST_IMAGES)
        pixels, labels = np.ascontiguousarray(finished.pixels[images]), finished.table.labels[images]
        rows = []
        for kind, severity in [("clean", 0), *((k, s) for k in KINDS for s in (1, 2, 3))]:
            said = finished.network.logits(corrupt(pixels, kind, severity)).argmax(axis=1)
            rows.append({"kind": kind, "severity": severity, "images": len(images), **scores(said, labels, len(finished.table.classes))})
        return pa.Table.from_pylist(rows)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        clean, *others = rows.to_pylist()
        mean = float(np.mean([r["accuracy"] for r in others]))
        return {"mean_accuracy": mean} | ({"relative": mean / clean["accuracy"]} if clean["accuracy"] else {})


def corrupt(pixels: np.ndarray, kind: str, severity: int) -> np.ndarray:
    """Return uint8 [N, S, S, C] of the same shape: a pure function of its arguments. Severity 0 is the image itself."""
    if severity == 0:
        return pixels
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(severity)
        changed = KINDS[kind](batch, severity)
    out: np.ndarray = changed.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return out


def _noise(batch: Tensor, severity: int) -> Tensor:
    sd = (0.04, 0.08, 0.16)[severity - 1]
    return tv.gaussian_noise(batch.float() / 255, sigma=sd).mul(255).round()


def _blur(batch: Tensor, severity: int) -> Tensor:
    """Blur the images. Widths are shares of the image, so that a severity means the same at every size."""
    sd = (0.008, 0.016, 0.032)[severity - 1] * batch.shape[-1]
    return tv.gaussian_blur(batch, kernel_size=[2 * int(3 * sd + 0.5) + 1] * 2, sigma=[sd, sd])


def _jpeg(batch: Tensor, severity: int) -> Tensor:
    grey = batch.shape[1] == 1
    coloured = batch.expand(-1, 3, -1, -1) if grey else batch
    out = torch.stack([tv.jpeg(image, quality=(40, 20, 8)[severity - 1]) for image in coloured])
    return out[:, :1] if grey else out


def _pixelate(batch: Tensor, severity: int) -> Tensor:
    side = max(round(batch.shape[-1] * (0.6, 0.4, 0.25)[severity - 1]), 1)
    return F.interpolate(F.interpolate(batch.float(), size=(side, side), mode="area"), size=batch.shape[-2:], mode="nearest").round()


def _elastic(batch: Tensor, severity: int) -> Tensor:
    bend = v2.ElasticTransform(alpha=(0.2, 0.4, 0.8)[severity - 1] * batch.shape[-1], sigma=0.06 * batch.shape[-1])
    return torch.stack([bend(image) for image in batch])


KINDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "contrast": lambda batch, severity: tv.adjust_contrast(batch, (0.6, 0.4, 0.2)[severity - 1]),
    "brightness": lambda batch, severity: tv.adjust_brightness(batch, (1.3, 1.7, 2.2)[severity - 1]),
    "pixelation": _pixelate,
    "elastic": _elastic,
}
