"""A measurement of the tuned features' worth: a linear probe on them, against one on the pretrained features, on own and foreign tasks.

Features below the pretrained ones on the own task were corrupted; above, adapted. Below on foreign tasks, generality was lost (concept
forgetting, Mukhoti et al. 2023, arXiv 2308.13320).
"""

import functools
import warnings
from typing import ClassVar

import numpy as np
import pyarrow as pa
from torch import nn

from study.console.progress import warn
from study.datasets.spec import TRAIN, VAL, ImageTable
from study.measure.base import Finished, Images, Measurement, NotMeasured
from study.measure.features import chosen, look, remembered, scores
from study.networks.pretrained import Backbone

MOST_TRAIN = 768
MOST_VAL = 512
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression, on standardised features; chosen on a quarter of its training images
FEWEST_A_CLASS = 5


class Reprobe(Measurement):
    """Accuracy and macro-F1 of probes on tuned and on pretrained features by task (the first is the trial's own), on validation images."""

    name: ClassVar[str] = "reprobe"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    of_tiles: ClassVar[bool] = False

    def rows(self, finished: Finished) -> pa.Table:
        start = finished.start()
        finished.network.where.place(start.model)
        own = Images(table=finished.table, pixels=finished.pixels)
        tasks = {finished.config.cell.dataset: own} | {name: open_it() for name, open_it in finished.foreign.items()}
        rows = []
        for task, images in tasks.items():
            train, val = chosen(images.table, TRAIN, MOST_TRAIN), chosen(images.table, VAL, MOST_VAL)
            if why := unfit(images.table, train):
                if images is own:
                    raise NotMeasured(why)
                remembered(("unfit", task), functools.partial(warn, f"reprobe leaves out the foreign task {task}: {why}"))
                continue
            key = _key(finished, start, task, images.table, train, val)
            before = remembered(key, functools.partial(_probe, finished, start.model, start.head, images, train, val))
            after = _probe(finished, finished.network.model, start.head, images, train, val)
            rows.append(
                {
                    "task": task,
                    "foreign": images is not own,
                    "images": len(val),
                    **after,
                    **{f"{k}_before": v for k, v in before.items()},
                }
            )
        return pa.Table.from_pylist(rows)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        own, *foreign = rows.to_pylist()
        out = {"own": own["accuracy"], "own_before": own["accuracy_before"]}
        if foreign:
            out["foreign_gain"] = float(np.mean([r["accuracy"] - r["accuracy_before"] for r in foreign]))
        return out


def unfit(table: ImageTable, train: np.ndarray) -> str:
    """Return why nothing could be measured on a task; an empty text where something can."""
    if table.tiles != (1, 1):
        return "its images are seen in tiles, and a probe looks at whole ones"
    if len(table.classes) < 2:
        return "it has fewer than two classes, so a probe has nothing to tell apart"
    counts = np.bincount(table.labels[train], minlength=len(table.classes))
    if counts.min() < FEWEST_A_CLASS:
        few = table.classes[int(counts.argmin())]
        return f"a probe needs {FEWEST_A_CLASS} training images of each class, and of {few} it is given {counts.min()}"
    return ""


def _key(finished: Finished, start: Backbone, task: str, table: ImageTable, train: np.ndarray, val: np.ndarray) -> tuple[object, ...]:
    protocol = finished.config.protocol
    return (
        "probe",
        start.name,
        start.fingerprint,
        task,
        table.fingerprint,
        train.tobytes(),
        val.tobytes(),
        protocol.image_size,
        protocol.precision,
    )


def _probe(finished: Finished, model: nn.Module, head: str, images: Images, train: np.ndarray, val: np.ndarray) -> dict[str, float]:
    """Return scores on `val` of a probe fitted to the model's features of `train`."""
    features = [look(finished, model, head, images.pixels[rows]).features for rows in (train, val)]
    labels = images.table.labels
    return scores(fit_probe(features[0], labels[train], features[1]), labels[val], len(images.table.classes))


def fit_probe(train: np.ndarray, labels: np.ndarray, val: np.ndarray) -> np.ndarray:
    """Return answers [M] of a multinomial logistic regression fitted on features [N, D]; training images alone choose its strength."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centre, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, val = (train - centre) / scale, (val - centre) / scale
    held = np.zeros(len(labels), bool)
    held[np.random.Generator(np.random.Philox(key=[5, len(labels)])).permutation(len(labels))[: len(labels) // 4]] = True

    def answer(strength: float, x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            out: np.ndarray = LogisticRegression(C=strength, max_iter=60, tol=1e-3).fit(x, y).predict(asked)
        return out

    right = [float((answer(c, train[~held], labels[~held], train[held]) == labels[held]).mean()) for c in STRENGTHS]
    return answer(STRENGTHS[int(np.argmax(right))], train, labels, val)
