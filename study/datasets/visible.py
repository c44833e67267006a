"""The part of a data set that training sees: its training and validation images, never the test images."""

from dataclasses import dataclass, replace

import numpy as np

from study.datasets.spec import TRAIN, VAL, ImageTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Visible:
    """Training and validation images. Rows are positions in `table`, which holds these images alone."""

    table: ImageTable
    numbers: np.ndarray  # int64 [N]: the images' positions in the whole data set, which randomness and caches go by
    whole: np.ndarray  # the pixel cache's file, memory-mapped; read through `pixels` alone

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 [len(rows), S, S, C]."""
        chosen: np.ndarray = self.whole[self.numbers[rows]]
        return chosen

    @property
    def num_bytes(self) -> int:
        return len(self.numbers) * int(np.prod(self.whole.shape[1:]))


def cut_off_test(table: ImageTable, whole: np.ndarray) -> Visible:
    """Return the training and validation images. `whole`: uint8 [images of `table`, S, S, C]."""
    numbers = np.flatnonzero((table.split == TRAIN) | (table.split == VAL))
    decode = table.decode
    seen = replace(
        table,
        ids=tuple(table.ids[k] for k in numbers),
        labels=table.labels[numbers],
        split=table.split[numbers],
        groups=None if table.groups is None else table.groups[numbers],
        metadata=None,
        soft=None if table.soft is None else table.soft[numbers],
        second=None if table.second is None else table.second[numbers],
        weights=None if table.weights is None else table.weights[numbers],
        decode=lambda row: decode(int(numbers[row])),
    )
    return Visible(table=seen, numbers=numbers, whole=whole)
