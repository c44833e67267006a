"""Small copies of the images that a study's report shows, kept in its folder so that the page needs no data set."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.conduct.same_images import Tables
from study.datasets.spec import TRAIN, ImageTable, spread
from study.datasets.thumbnails import thumbnail
from study.question.study_config import Study
from study.tracking.ledger import PICTURES, Ledger

SAMPLES, MOST_CLASSES = 3, 40
"""The number of training images shown of each class, and of classes shown."""


class Gatherer:
    """A writer of the images that the report wants, and of a few samples of every class."""

    def __init__(self, study: Study, ledger: Ledger, tables: Tables) -> None:
        self.study, self.ledger, self.tables = study, ledger, tables

    def __call__(self, wanted: Mapping[tuple[str, str], Sequence[str]]) -> None:
        rows: list[dict[str, Any]] = []
        for cell in {(c.dataset, c.splits): c for c in self.study.cells}.values():
            table, key = self.tables[cell.dataset, cell.split_protocol], (cell.dataset, cell.splits)
            at = {name: k for k, name in enumerate(table.ids)}
            shown = [(k, "sample") for k in samples(table)] + [(at[name], "") for name in wanted.get(key, ()) if name in at]
            for k, role in shown:
                if (small := thumbnail(table, k)) is not None:
                    label = table.called(k)
                    rows.append({"dataset": key[0], "splits": key[1], "image": table.ids[k], "label": label, "role": role, "jpeg": small})
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer)
        self.ledger.folder.write(PICTURES, buffer.getvalue())


SCHEMA = pa.schema([*((name, pa.string()) for name in ("dataset", "splits", "image", "label", "role")), ("jpeg", pa.binary())])


def samples(table: ImageTable) -> list[int]:
    """Return the positions of a few training images of each class, spread over those it has."""
    out: list[int] = []
    for label in range(min(len(table.classes), MOST_CLASSES)):
        own = np.flatnonzero((table.split == TRAIN) & table.of_class(label))
        out += spread(own, table.kinds, SAMPLES).tolist()
    return out
