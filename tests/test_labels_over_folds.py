"""Pictures with several labels, tested by outer folds: each network's answers are by the thresholds of its own validation images."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from analysis.data.predictions import Predictions
from analysis.findings.network_scores import scored
from analysis.findings.over_folds import pooled_passes
from study.scoring.labels import best_thresholds
from study.scoring.metric import DEFAULT

FOLDS, IMAGES, LABELS = 5, 12, 3


def one(rng: np.random.Generator, name: str) -> dict[str, Predictions]:
    """Return what a network says of its validation and test images, its logits shifted as a network of its own shifts them."""
    shift = rng.normal(0, 3, LABELS)
    labels = {split: rng.random((IMAGES, LABELS)) < 0.4 for split in ("val", "test")}
    logits = {split: 2.0 * own + rng.normal(0, 1, own.shape) + shift for split, own in labels.items()}
    told = best_thresholds(logits["val"], labels["val"])
    names = np.array([f"{name}-{k}" for k in range(IMAGES)])
    return {s: Predictions(images=names, labels=labels[s], groups=None, logits=logits[s], thresholds=told) for s in labels}


def test_a_pass_is_scored_by_the_thresholds_of_each_of_its_networks() -> None:
    rng = np.random.default_rng(0)
    said = {f"t{k}": one(rng, f"t{k}") for k in range(FOLDS)}
    frames = SimpleNamespace(study=SimpleNamespace(folds=FOLDS), predictions=said.__getitem__)
    (found,) = pooled_passes(frames, pd.DataFrame({"trial_id": list(said), "number": range(FOLDS)}))  # type: ignore[arg-type]
    score, again = scored(found["test"], found["test"].logits, 20, DEFAULT)
    parts = [p["test"] for p in said.values()]
    truth, named = np.concatenate([p.labels for p in parts]), np.concatenate([p.logits > p.thresholds for p in parts])
    assert np.isclose(score, f1_score(truth, named, average="macro")) and np.isfinite(again).all()
