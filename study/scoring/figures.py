"""The figures of an epoch: those of every study, and the metric's own where it is none of them."""

from typing import Any

import numpy as np

from study.metrics import score
from study.records import OBJECTIVE, SCORED_BY
from study.scoring.metric import Metric


def figures_of(metric: Metric, logits: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """(figures, confusion [C, C], the class named [N]) of logits [N, C]; images that calibrate themselves, as those of validation do.

    An undefined score is absent. Raises ValueError for logits that are not finite.
    """
    said = metric.said(logits, metric.temperature(logits, labels)) if np.isfinite(logits).all() else None
    figures, confusion = score(logits, labels, said.named if said else None)
    assert said is not None, "logits that are not finite were refused"
    own = float(metric.score(labels, said)) if metric.key not in figures else np.nan
    return figures | ({metric.key: own} if np.isfinite(own) else {}), confusion, said.named


def scored_by(metric: Metric) -> dict[str, Any]:
    """Return the entry for the metric in an epoch's facts; empty for the usual metric."""
    return {} if metric.recorded == OBJECTIVE else {SCORED_BY: metric.recorded}
