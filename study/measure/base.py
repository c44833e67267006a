"""What a measurement is, and what it is given."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.config import TrialConfig
from study.datasets.spec import ImageTable
from study.files import Folder
from study.networks.pretrained import Backbone
from study.predictor import Predictor
from study.training import distributed


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A trial that ended with a network, and the images it may be measured on."""

    config: TrialConfig
    network: Predictor  # at the kept checkpoint
    start: Callable[[], Backbone]  # the network it was before training, made anew at each call
    table: ImageTable
    pixels: np.ndarray  # uint8 [N, S, S, C] of every image of `table`, memory-mapped


class Measurement(ABC):
    """Rows about one network. Final in every subclass; one small file each, listed on the contents page (`__init__`)."""

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]  # of which it looks at images: "test" among them makes the test lock its business

    @abstractmethod
    def rows(self, finished: Finished) -> pa.Table:
        """The same on every worker, whatever their number; rows name the images or the stages they speak of."""


def measure(finished: Finished, measurement: Measurement, folder: Folder) -> None:
    """Writes `folder`/measured/NAME.parquet. Called by every worker of a trial; the first one writes."""
    rows = measurement.rows(finished)
    if distributed.rank() == 0:
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        folder.write(f"measured/{measurement.name}.parquet", buffer.getvalue())
    distributed.barrier()
