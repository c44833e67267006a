"""A measurement of the way back: networks between the tuned one and its start, scored on both tasks (WiSE-FT, Wortsman et al. 2022).

A network on the way that loses nothing on the new task and keeps more of the old is a better network at no cost.
"""

import copy
from typing import ClassVar

import pyarrow as pa

from study.measure.base import Finished, Measurement
from study.measure.features import look, scores
from study.measure.pretrained_head import between, original

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the tuned weights


class WayBack(Measurement):
    """Validation accuracy and macro-F1 under the tuned head, agreement and KL under the original one, by share of the tuned weights."""

    name: ClassVar[str] = "way_back"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    of_tiles: ClassVar[bool] = False

    def rows(self, finished: Finished) -> pa.Table:
        known = original(finished)
        start, head = finished.start(), known.backbone.head
        began, tuned = start.model.state_dict(), finished.network.model.state_dict()
        model = copy.deepcopy(finished.network.model)
        labels, pixels = finished.table.labels[known.images], finished.pixels[known.images]
        rows = []
        for share in SHARES:
            model.load_state_dict(between(began, tuned, share, head))
            seen = look(finished, model, head, pixels)
            own = scores(seen.logits.argmax(axis=1), labels, len(finished.table.classes))
            rows.append({"share": share, "images": len(labels), **own, **known.kept(seen.features)})
        return pa.Table.from_pylist(rows)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        half = next(r for r in rows.to_pylist() if r["share"] == 0.5)
        return {"half_way_macro_f1": half["macro_f1"], "half_way_agreement": half["agreement"]}
