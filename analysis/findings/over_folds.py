"""The network to use in a study with outer folds: one of several networks, each of which saw other images.

Its score comes from the predictions of all of them, each on its own fold.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.predictions import Predictions

Said = Mapping[str, Predictions]
"""Predictions by split name."""


def pooled_passes(frames: Frames, runs: pd.DataFrame) -> list[Said]:
    """Return, for every complete pass, the pooled predictions of its networks on the validation and test images of their own folds.

    Each image is a test image once a pass, and a validation image once. `runs` holds the completed confirm runs of one cell.
    """
    return list(_passes(frames, runs.assign(a_pass=runs["number"] // frames.study.folds)))


def _passes(frames: Frames, runs: pd.DataFrame) -> Iterator[Said]:
    for _, own in runs.sort_values("number").groupby("a_pass"):
        said = [p for t in own["trial_id"] if {"val", "test"} <= (p := frames.predictions(str(t))).keys()]
        if len(said) == frames.study.folds:
            yield {split: _together([p[split] for p in said]) for split in ("val", "test")}


def _together(parts: list[Predictions]) -> Predictions:
    groups = [p.groups for p in parts if p.groups is not None]
    own = [
        np.broadcast_to(p.thresholds, p.logits.shape) for p in parts if p.thresholds is not None
    ]  # each network has thresholds of its own
    return Predictions(
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        groups=np.concatenate(groups) if len(groups) == len(parts) else None,
        logits=np.concatenate([p.logits for p in parts]),
        thresholds=np.concatenate(own) if len(own) == len(parts) else None,
    )
