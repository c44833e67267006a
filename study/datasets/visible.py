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

    @property
    def tiles(self) -> int:
        """Return the number of successive rows that are tiles of one image."""
        return self.table.tiles[0] * self.table.tiles[1]

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 [len(rows), S, S, C]."""
        numbers = self.numbers[rows]
        if self.tiles == 1:
            chosen: np.ndarray = self.whole[numbers]
            return chosen
        down, across = self.table.tiles
        count, height, width, channels = self.whole.shape
        grid = self.whole.reshape(count, down, height // down, across, width // across, channels)
        image, tile = np.divmod(numbers, self.tiles)
        found: np.ndarray = grid[image, tile // across, :, tile % across]
        return found

    @property
    def num_bytes(self) -> int:
        return len(self.numbers) * int(np.prod(self.whole.shape[1:])) // self.tiles


def cut_off_test(table: ImageTable, whole: np.ndarray) -> Visible:
    """Return the training and validation images. `whole`: uint8 [images of `table`, S, S, C].

    Of images in tiles each tile becomes a row, those of one image one after the other.
    """
    tiles = table.tiles[0] * table.tiles[1]
    images = np.flatnonzero((table.split == TRAIN) | (table.split == VAL))
    numbers = (images[:, None] * tiles + np.arange(tiles)).ravel()
    shown = numbers // tiles  # the image of each row
    decode = table.decode
    seen = replace(
        table,
        ids=tuple(table.ids[k] + f" tile {n % tiles + 1}" * (tiles > 1) for k, n in zip(shown, numbers, strict=True)),
        labels=table.labels[shown],
        split=table.split[shown],
        groups=None if table.groups is None else table.groups[shown],
        metadata=None,
        soft=None if table.soft is None else table.soft[shown],
        second=None if table.second is None else table.second[shown],
        weights=None if table.weights is None else table.weights[shown],
        sizes=None,
        decode=lambda row: decode(int(shown[row])),
    )
    return Visible(table=seen, numbers=numbers, whole=whole)
