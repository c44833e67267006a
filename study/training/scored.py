"""Scores of a pass over images: pictures and never tiles, one label or several, with the figures that the data allow."""

import numpy as np

from study.scoring.figures import figures_of
from study.scoring.labels import best_thresholds, label_figures
from study.scoring.metric import Metric
from study.scoring.steps import step_figures
from study.training.inputs import Inputs


def scored(
    metric: Metric, inputs: Inputs, logits: np.ndarray, rows: np.ndarray
) -> tuple[dict[str, float], np.ndarray | None, np.ndarray | None]:
    """Return (figures by name, confusion [C, C], the class named of each picture [n]) of logits [len(rows), C]. Where a picture may have
    several labels there is no confusion, and validation images give the thresholds that all are named by (`Inputs.thresholds`).

    Raises ValueError for logits that are not finite."""
    logits, labels = inputs.pictures(logits, rows)
    if inputs.table.several:
        if rows is inputs.val:
            inputs.thresholds = best_thresholds(logits, labels) if np.isfinite(logits).all() else None
        return label_figures(logits, labels, inputs.thresholds)[0], None, None
    figures, confusion, named = figures_of(metric, logits, labels)
    return figures | (step_figures(named, labels, logits.shape[1]) if inputs.table.ordered else {}), confusion, named
