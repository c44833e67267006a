"""Digits: the real 8 x 8 scans that come with scikit-learn. Small enough for any test."""

from pathlib import Path

import numpy as np

from study.datasets.imagefiles import fingerprint
from study.datasets.spec import ImageTable, stratified_split


def read(root: Path | None, protocol: str, fold: int) -> ImageTable:
    from sklearn.datasets import load_digits

    del root, protocol
    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    split = stratified_split(labels, None, 0, fold, what="digits")
    return ImageTable(
        name="digits",
        classes=tuple(str(d) for d in range(10)),
        ids=tuple(f"digit-{k:04d}" for k in range(len(labels))),
        labels=labels,
        split=split,
        form=f"{len(labels)} scans of scikit-learn, own stratified split",
        fingerprint=fingerprint(["digits", images.tobytes().hex()[:4096]]),
        decode=lambda i: images[i],
        policy="mild",
        channels=1,
        native_size=8,
    )
