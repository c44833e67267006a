"""A measurement of what a network relies on: the subject or the background of images (Xiao et al. 2020, arXiv 2006.09994).

It serves data sets that tell where an image's subject is. Images whose class has no subject are left out of every row, the plain one too.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional as F

from study.datasets.spec import VAL
from study.measure.base import Finished, Measurement, NotMeasured
from study.measure.features import chosen, scores

CHANGES = ("as it is", "subject only", "background only", "background of its class", "background of any class")


class Background(Measurement):
    """Accuracy and macro-F1 by change, on the same validation images. The background gap is the last but one row minus the last."""

    name: ClassVar[str] = "background"
    splits: ClassVar[tuple[str, ...]] = ("val",)

    def rows(self, finished: Finished) -> pa.Table:
        table, where = finished.table, finished.table.foreground
        if where is None:
            raise NotMeasured(f"{table.name} does not say where its subject is")
        images = chosen(table, VAL)
        images = images[~np.isin(table.labels[images], where.without)]
        if len(images) < 2:
            raise NotMeasured(f"{len(images)} validation images show a {where.subject}")
        pixels, labels = np.ascontiguousarray(finished.pixels[images]), table.labels[images]
        mask = where.mask(pixels)
        rows = []
        for change, changed in zip(CHANGES, changes(pixels, mask, labels), strict=True):
            said = finished.network.logits(changed).argmax(axis=1)
            rows.append({"change": change, "images": len(images), **scores(said, labels, len(table.classes))})
        return pa.Table.from_pylist(rows)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        by = {r["change"]: r["accuracy"] for r in rows.to_pylist()}
        return {"subject_only": by[CHANGES[1]], "background_only": by[CHANGES[2]], "gap": by[CHANGES[3]] - by[CHANGES[4]]}


def changes(pixels: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the images of CHANGES, uint8 [N, S, S, C] each. `mask`: bool [N, S, S], the subject."""
    front = mask[..., None]
    filled = _without_subject(pixels, mask)
    mean = pixels.mean(axis=(0, 1, 2)).round().astype(np.uint8)  # of all images: an image's own mean would tell of its background
    rng = np.random.Generator(np.random.Philox(key=[17, len(pixels)]))
    own = np.arange(len(pixels))
    same, anyone = own.copy(), own.copy()
    for k in own:
        others = np.flatnonzero((labels == labels[k]) & (own != k))
        same[k] = rng.choice(others) if len(others) else k
        anyone[k] = rng.choice(np.delete(own, k))
    return (
        pixels,
        np.where(front, pixels, mean),
        filled,
        np.where(front, pixels, filled[same]),
        np.where(front, pixels, filled[anyone]),
    )


def _without_subject(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return images with the subject filled by the mean of its surroundings: background grows inwards from coarser and coarser
    averages."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    known = torch.from_numpy(~mask)[:, None].float()
    filled, have = image * known, known
    total, weight = filled, known
    while total.shape[-1] > 1:
        total, weight = F.avg_pool2d(total, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)
        coarse = F.interpolate(total / weight.clamp(min=1e-6), size=image.shape[-2:], mode="bilinear", align_corners=False)
        seen = (F.interpolate(weight, size=image.shape[-2:], mode="nearest") > 0).float()
        new = (1 - have) * seen
        filled, have = filled + coarse * new, have + new
    out: np.ndarray = filled.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out
