"""A measurement of catastrophic forgetting: the answers of the network's original head on the tuned features."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from torch import nn

from study.measure.base import Finished, Images, Measurement
from study.measure.features import Look, chosen, look
from study.measure.pretrained_head import Original, head_on, original, original_re_estimated, re_estimated


class Forgetting(Measurement):
    """Forgetting in one row for the network as it is, and one with batch-norm statistics estimated anew on the study's images.

    In the second row both networks, tuned and pretrained, are estimated anew, so a difference there comes from weights, not from drifted
    statistics. `agreement` (share) and `kl` (nats) are on the study's own validation images; `accuracy` and `accuracy_before` on labelled
    images of the original classes, where some were given, else null.
    """

    name: ClassVar[str] = "forgetting"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    of_tiles: ClassVar[bool] = False

    def rows(self, finished: Finished) -> pa.Table:
        known = original(finished)
        labelled = finished.labelled() if finished.labelled else None
        as_it_is = _row("as it is", finished, known, finished.network.model)
        if labelled is not None:
            tuned = look(finished, finished.network.model, known.backbone.head, _of(labelled))
            as_it_is |= {
                "accuracy": _accuracy(finished, known, labelled, tuned),
                "accuracy_before": _accuracy(finished, known, labelled, None),
            }
        again, before = re_estimated(finished, finished.network.model), original_re_estimated(finished)
        rows = [as_it_is] if again is None or before is None else [as_it_is, _row("batch norm re-estimated", finished, before, again)]
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


def _row(kind: str, finished: Finished, known: Original, model: nn.Module) -> dict[str, Any]:
    seen = look(finished, model, known.backbone.head, finished.pixels[known.images])
    return {"kind": kind, "images": len(known.images), **known.kept(seen.features)}


def _of(labelled: Images) -> np.ndarray:
    return labelled.pixels[_used(labelled)]


def _used(labelled: Images) -> np.ndarray:
    return chosen(labelled.table, 0, 1024)


def _accuracy(finished: Finished, known: Original, labelled: Images, tuned: Look | None) -> float:
    """Return the accuracy of the original head on labelled images: with the tuned features, or, with `tuned` None, with its own."""
    if tuned is None:
        said = look(finished, known.backbone.model, known.backbone.head, _of(labelled)).logits
    else:
        said = head_on(known.backbone, tuned.features)
    return float((said.argmax(axis=1) == labelled.table.labels[_used(labelled)]).mean())
