"""A measurement of the network's predictions on every validation and test image, the rows that a verdict rests on."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from study.datasets.spec import TEST, VAL
from study.measure.base import Finished, Measurement
from study.records import HELD
from study.training import distributed

CHUNK = 512  # images read from the memory-mapped cache at a time


class Predictions(Measurement):
    """Logits float32 [classes] of each image, with its split, id, label and group, for test images alone where the others were trained on.

    For images with several labels, `labels` names them and `label` is their number.
    """

    name: ClassVar[str] = "predictions"
    splits: ClassVar[tuple[str, ...]] = ("val", "test")
    of_labels: ClassVar[bool] = True
    aside: ClassVar[bool] = False

    def rows(self, finished: Finished) -> pa.Table:
        split = finished.table.split
        found = _said_of(finished, np.flatnonzero((split == VAL) | (split == TEST)))
        return found.replace_schema_metadata({HELD: "test"}) if finished.config.train_on == "train+val" else found


class Validation(Measurement):
    """The same rows for validation images alone: the test set stays closed."""

    name: ClassVar[str] = "validation"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    of_labels: ClassVar[bool] = True
    aside: ClassVar[bool] = False

    def rows(self, finished: Finished) -> pa.Table:
        return _said_of(finished, np.flatnonzero(finished.table.split == VAL)).replace_schema_metadata({HELD: "val"})


def _said_of(finished: Finished, chosen: np.ndarray) -> pa.Table:
    table, logits = finished.table, predict_shared(finished, chosen)
    labels = table.labels[chosen]
    several = {"labels": pa.array(labels.tolist(), pa.list_(pa.bool_(), labels.shape[1]))} if table.several else {}
    return pa.table(
        {
            "split": pa.array(np.where(table.split[chosen] == TEST, "test", "val")),
            "image": pa.array([table.ids[i] for i in chosen]),
            "label": pa.array((labels.sum(axis=1) if table.several else labels).astype(np.int64)),
            **several,
            "group": pa.array(table.groups[chosen].astype(np.int64) if table.groups is not None else [None] * len(chosen), pa.int64()),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1]),
        }
    )


def predict_shared(finished: Finished, chosen: np.ndarray) -> np.ndarray:
    """Return logits float32 [len(chosen), classes] of the images at `chosen`: the workers share the work and all get the whole."""
    network, mine = finished.network, distributed.shard(chosen)
    parts = [network.logits(finished.pixels[mine[start : start + CHUNK]]) for start in range(0, len(mine), CHUNK)]
    shard = torch.from_numpy(np.concatenate([network.logits(finished.pixels[:0]), *parts])).to(network.where.device)
    return distributed.gather_rows(shard, len(chosen))
