"""Catastrophic forgetting: what the head that the network came with still says of the tuned features."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from study.measure.base import Finished, Images, Measurement
from study.measure.looks import Look, chosen, look
from study.measure.original import Original, head_on, original, re_estimated


class Forgetting(Measurement):
    """One row as the network is, one with its batch-norm statistics estimated again: that part is drift of statistics, the rest of weights.

    `agreement` (share) and `kl` (nats) on the study's own validation images; `accuracy` and `accuracy_before` on labelled images of the
    original classes, where some were given, else null.
    """

    name: ClassVar[str] = "forgetting"
    splits: ClassVar[tuple[str, ...]] = ("val",)

    def rows(self, finished: Finished) -> pa.Table:
        known = original(finished)
        pixels = finished.pixels[known.images]
        labelled = finished.labelled() if finished.labelled else None
        before = _accuracy(finished, known, labelled, None)
        rows = []
        again = re_estimated(finished, known.backbone)
        for kind, model in (("as it is", finished.network.model), ("batch norm re-estimated", again)):
            if model is None:
                continue
            found = known.kept(look(finished, model, known.backbone.head, pixels).features)
            rows.append(
                {
                    "kind": kind,
                    "images": len(known.images),
                    **found,
                    "accuracy": _accuracy(
                        finished, known, labelled, look(finished, model, known.backbone.head, _of(labelled)) if labelled else None
                    ),
                    "accuracy_before": before,
                }
            )
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        first = rows.to_pylist()[0]
        return {k: first[k] for k in ("agreement", "kl", "accuracy", "accuracy_before") if first[k] is not None}


SCHEMA = pa.schema(
    {
        "kind": pa.string(),
        "images": pa.int64(),
        "agreement": pa.float64(),
        "kl": pa.float64(),
        "accuracy": pa.float64(),
        "accuracy_before": pa.float64(),
    }
)


def _of(labelled: Images) -> np.ndarray:
    return labelled.pixels[_used(labelled)]


def _used(labelled: Images) -> np.ndarray:
    return chosen(labelled.table, 0, 1024)


def _accuracy(finished: Finished, known: Original, labelled: Images | None, tuned: Look | None) -> float | None:
    """Of the original head on labelled images: under the tuned features, or, with `tuned` None, as it was."""
    if labelled is None:
        return None
    if tuned is None:
        said = look(finished, known.backbone.model, known.backbone.head, _of(labelled)).logits
    else:
        said = head_on(known.backbone, tuned.features)
    return float((said.argmax(axis=1) == labelled.table.labels[_used(labelled)]).mean())
