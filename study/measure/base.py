"""The interface of a measurement, and its inputs."""

import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.datasets.spec import ImageTable
from study.errors import EnvironmentProblem, StudyError
from study.networks.pretrained import Backbone
from study.question.trial_config import TrialConfig
from study.records import LEFT_OUT, SUMMARY, dumps
from study.storage.folder import Folder
from study.storage.refusals import one_line
from study.training import distributed
from study.use.predictor import Predictor

log = logging.getLogger(__name__)


class NotMeasured(Exception):
    """An error where a measurement has no result for this trial; the message is the reason, one line. No zero is written instead."""


FAILED = "failed: "
"""The beginning of the reason where a measurement ended in an unexpected error."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """A data set as measurements see it."""

    table: ImageTable
    pixels: np.ndarray  # uint8 [N, S, S, C] of every image of `table`, memory-mapped


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A trial that ended with a network, and the images it may be measured on."""

    config: TrialConfig
    network: Predictor  # at the kept checkpoint
    start: Callable[[], Backbone]  # the network it was before training, made anew at each call
    published: Callable[[], Backbone]  # the pretrained network with the head it came with; raises NotMeasured where nothing was pretrained
    table: ImageTable
    pixels: np.ndarray  # uint8 [N, S, S, C] of every image of `table`, memory-mapped
    foreign: Mapping[str, Callable[[], Images]]  # other tasks by name: the study's other data sets, folders given for it
    labelled: Callable[[], Images] | None  # images of the classes the network was pretrained on, labels as its own head numbers them
    earlier: Callable[[str], pa.Table | None]  # what another measurement found on this trial


class Measurement(ABC):
    """Rows about one network. Subclasses are final; each is one small file, listed on the contents page (`__init__`)."""

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]  # of which it looks at images: "test" among them makes the test lock its business
    of_labels: ClassVar[bool] = False  # it knows of images with several labels
    of_tiles: ClassVar[bool] = True  # it asks the network for answers alone, whatever a picture is cut into
    aside: ClassVar[bool] = True  # no verdict rests on it, so no error of its own fails the run that it measures

    @abstractmethod
    def rows(self, finished: Finished) -> pa.Table:
        """Return the rows, the same on every worker; they name the images or the stages they are about. Raises NotMeasured."""

    def summary(self, rows: pa.Table) -> dict[str, float]:
        """Return a few finite numbers by name, which are logged to the trial's run in MLflow as NAME/KEY."""
        return {}


def measure(finished: Finished, measurement: Measurement, folder: Folder) -> str:
    """Write `folder`/measured/NAME.parquet and return the reason why there are no rows, or "".

    The schema's metadata hold the summary or that reason. Every worker of a trial calls it; the first one writes.

    Every error in a measurement that stands aside is such a reason, and does not replace rows that were measured before. Raises
    EnvironmentProblem for faults that every other run would meet too, such as a full disk, and InterruptedError.
    """
    reason, file = "", f"measured/{measurement.name}.parquet"
    try:
        if finished.table.tiles != (1, 1) and not measurement.of_tiles:
            raise NotMeasured("it looks into the network at whole images, and these are seen in tiles")
        if finished.table.several and not measurement.of_labels:
            raise NotMeasured("it is of images that have one label, and these may have several")
        rows = measurement.rows(finished)
        if few := measurement.summary(rows):
            rows = rows.replace_schema_metadata({SUMMARY: dumps(few)})
    except NotMeasured as why:
        reason = str(why)
    except (EnvironmentProblem, InterruptedError):
        raise
    except Exception as error:
        if not measurement.aside:
            raise
        log.warning("%s of trial %s failed", measurement.name, finished.config.id, exc_info=not isinstance(error, StudyError))
        reason = FAILED + one_line(error) if isinstance(error, StudyError) else f"{FAILED}{type(error).__name__}: {one_line(error)}"
    if reason:
        rows = pa.table({}).replace_schema_metadata({LEFT_OUT: reason})
    if distributed.rank() == 0 and not (reason.startswith(FAILED) and folder.exists(file)):
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        folder.write(file, buffer.getvalue())
    distributed.barrier()
    return reason
