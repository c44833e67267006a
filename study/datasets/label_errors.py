"""Likely label errors, found by finished networks on images they were not trained on (confident learning, arXiv 1911.00068)."""

import numpy as np

from study.datasets.audit import Suspect
from study.datasets.spec import SPLITS, ImageTable
from study.errors import ConfigError, DataError, EnvironmentProblem


def likely_label_errors(table: ImageTable, images: list[str], logits: list[np.ndarray]) -> list[Suspect]:
    """Return the likely label errors, the surest first.

    `images` are ids. `logits` are float [len(images), classes] of each network that was not trained on them, or of each pass of outer
    folds, whose probabilities are averaged.

    Raises EnvironmentProblem without the package, DataError where the study's images are not those of the table, ConfigError for too
    few.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise EnvironmentProblem("--study needs the package cleanlab: pip install finetune-study[labels].") from None
    position = {name: k for k, name in enumerate(table.ids)}
    if lost := [name for name in images if name not in position]:
        raise DataError(f"{table.name} has no image {lost[0]}, which the study has. Check the data set that the study was run on.")
    rows = np.array([position[name] for name in images])
    probabilities = np.mean([_softmax(one) for one in logits], axis=0)
    if table.several:
        raise DataError(f"{table.name}: label errors are looked for where an image has one label, and these have several.")
    labels = table.labels[rows]
    present = np.unique(labels)
    if len(present) < 2 or len(rows) < 2 * len(table.classes):
        raise ConfigError(f"{len(rows)} images of {len(present)} classes are too few to judge labels by. Add images.")
    scores = probabilities[:, present]  # a class without an image cannot be judged
    place = {int(c): k for k, c in enumerate(present)}
    found = find_label_issues(
        np.array([place[int(c)] for c in labels]),
        scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return [
        Suspect(
            image=images[k],
            split=SPLITS[table.split[rows[k]]],
            label=table.classes[labels[k]],
            kind="label",
            detail=f"{len(logits)} network{'s' * (len(logits) != 1)} say{'s' * (len(logits) == 1)} "
            f"{table.classes[probabilities[k].argmax()]} ({probabilities[k].max():.0%}), "
            f"and {probabilities[k][labels[k]]:.0%} for its label",
            position=int(rows[k]),
        )
        for k in found
    ]


def _softmax(logits: np.ndarray) -> np.ndarray:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float64)
