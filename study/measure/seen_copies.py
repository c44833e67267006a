"""A measurement of the score's share from copies: test images with an exact or near copy in train against all others."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from study.datasets.audit import near_copies
from study.datasets.spec import TEST, TRAIN
from study.measure.base import Finished, Measurement, NotMeasured
from study.measure.features import remembered, scores


class Copies(Measurement):
    """Accuracy and macro-F1 in two rows: on test images with an exact or near copy in train, and on all others."""

    name: ClassVar[str] = "copies"
    splits: ClassVar[tuple[str, ...]] = ("test",)

    def rows(self, finished: Finished) -> pa.Table:
        found, table = finished.earlier("predictions"), finished.table
        if found is None:
            raise NotMeasured("it rests on predictions, which were not made")
        key = ("copies", table.fingerprint, table.split.tobytes(), finished.pixels.shape)
        copied = remembered(key, lambda: near_copies(finished.pixels, table.split == TRAIN, table.split == TEST))
        if copied is None:
            raise NotMeasured(f"{len(table.ids)} images are too many to compare each with each")
        names = {table.ids[k] for k in copied}
        test = np.asarray(found["split"].to_pylist()) == "test"
        twin = np.array([image in names for image in found["image"].to_pylist()])[test]
        if not twin.any():
            raise NotMeasured("no test image has an exact or near copy in train")
        if twin.all():
            raise NotMeasured("every test image has an exact or near copy in train")
        labels = found["label"].to_numpy()[test]
        said = np.stack(found["logits"].to_numpy(zero_copy_only=False))[test].argmax(axis=1)
        rows = [
            {
                "copied": bool(kind),
                "images": int((twin == kind).sum()),
                **scores(said[twin == kind], labels[twin == kind], len(table.classes)),
            }
            for kind in (True, False)
        ]
        return pa.Table.from_pylist(rows)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        copied, others = rows.to_pylist()
        return {"images": float(copied["images"]), "accuracy": copied["accuracy"], "accuracy_of_others": others["accuracy"]}
