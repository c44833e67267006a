"""Predictions of a confirm run for every validation and test image. They are checked when read, since the verdict rests on them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from study.errors import EnvironmentProblem
from study.metrics import log_shares
from study.records import HELD
from study.scoring import Metric, Said
from study.scoring.labels import best_thresholds, named_labels, truth_shares
from study.storage import parquet
from study.tracking.ledger import Ledger

SPLITS = ("val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predictions of one confirm run on one split, images in the order of their names: logits [N, C], labels [N] or, where an image may
    have several, bool [N, C], groups [N] or None."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    logits: np.ndarray
    thresholds: np.ndarray | None = None
    """Thresholds [C] of labels' logits, as the run's validation images give them, or [N, C] where images are of several runs. None of one
    label an image."""

    @property
    def several(self) -> bool:
        """Return whether an image may have several labels."""
        return self.labels.ndim == 2

    @property
    def named(self) -> np.ndarray:
        """Return the likeliest class of each image [N], or the labels above their thresholds, bool [N, C]."""
        out: np.ndarray = self.logits.argmax(axis=1) if self.thresholds is None else named_labels(self.logits, self.thresholds)
        return out

    def said(self, metric: Metric, temperature: float = 1.0) -> Said:
        """Return what its logits say by a metric; of several labels those above their thresholds, whatever the metric."""
        return Said(named=self.named) if self.several else metric.said(self.logits, temperature)

    @property
    def truth(self) -> np.ndarray:
        """Return the probability of the true class, [N] in [0, 1]; of several labels the mean of the probabilities of what is true."""
        if self.several:
            return truth_shares(self.logits, self.labels)
        return np.asarray(np.exp(log_shares(self.logits)[np.arange(len(self.labels)), self.labels]))

    def differs(self, other: "Predictions") -> str:
        """Return the column in which it differs from `other` in what it is about, or "" where both are about the same images."""
        if not np.array_equal(self.images, other.images):
            return "images"
        if not np.array_equal(self.labels, other.labels):
            return "labels"
        if self.logits.shape[1] != other.logits.shape[1]:
            return "classes"
        if (self.groups is None) != (other.groups is None) or not np.array_equal(self.groups, other.groups):  # type: ignore[arg-type]
            return "groups"
        return ""


def read_predictions(ledger: Ledger, trial_id: str, name: str = "predictions") -> dict[str, Predictions]:
    """Return the predictions by split ("val", "test", or the one that the file names), empty where none were made.

    Raises EnvironmentProblem, with the file's name, for one that cannot be trusted.
    """
    table = read_measured(ledger, trial_id, name)
    if table is None:
        return {}
    try:
        return _by_split(table)
    except (ValueError, pa.ArrowException) as error:
        raise refusal(ledger, trial_id, name, f"is damaged ({_line(error)})") from None


def read_measured(ledger: Ledger, trial_id: str, name: str) -> pa.Table | None:
    """Return the rows of measurement `name`, whatever their columns, or None where it was not made.

    Raises EnvironmentProblem for a file that is not Parquet.
    """
    data = ledger.measured(trial_id, name)
    if data is None:
        return None
    try:
        if not data:
            raise ValueError("it is empty")
        table = parquet.read(data)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise refusal(ledger, trial_id, name, f"is damaged ({_line(error)})") from None
    return table


def refusal(ledger: Ledger, trial_id: str, name: str, reason: str) -> EnvironmentProblem:
    """Build the error in one line: the file, what is wrong with it, and the way out."""
    return EnvironmentProblem(
        f"{measured_path(ledger, trial_id, name)} {reason}. Restore it from a backup, "
        f"or run python -m study.measure {ledger.folder.location} {name} --again."
    )


def measured_path(ledger: Ledger, trial_id: str, name: str) -> str:
    return ledger.trial_folder(trial_id).shown(f"measured/{name}.parquet")


def _is_row_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    return any(fits(kind) for fits in lists) and pa.types.is_floating(kind.value_type)


COLUMNS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "split": (parquet.is_text, "texts"),
    "image": (parquet.is_text, "texts"),
    "label": (pa.types.is_integer, "whole numbers"),
    "group": (pa.types.is_integer, "whole numbers"),
    "logits": (_is_row_of_numbers, "rows of numbers"),
}


def _by_split(table: pa.Table) -> dict[str, Predictions]:
    """Check the table and return its predictions by split. Raises ValueError for values that no network of a study produces."""
    for name, (fits, kind) in COLUMNS.items():
        if table.schema.names.count(name) != 1:
            raise ValueError(f"it has no column {name!r}, or several")
        if not fits(table.schema.field(name).type):
            raise ValueError(f"its column {name!r} does not hold {kind}")
        if table[name].null_count and name != "group":
            raise ValueError(f"values are missing in its column {name!r}")
    split, images = (np.asarray(table[name].to_pylist()) for name in ("split", "image"))
    logits, groups = _logits(table), _groups(table)
    labels = _labels(table, logits.shape[1]) if "labels" in table.schema.names else table["label"].to_numpy()
    alone = (table.schema.metadata or {}).get(HELD.encode(), b"").decode("utf-8", "replace")
    held = (alone,) if alone in SPLITS else SPLITS
    if stray := sorted(set(split.tolist()) - set(held)):
        raise ValueError(f"it names a split {stray[0][:40]!r}")
    if len(set(images.tolist())) != len(images):
        raise ValueError("an image stands in it twice")
    if len(labels) and labels.ndim == 1 and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(f"a label lies outside 0 to {logits.shape[1] - 1}")
    found = {}
    for name in held:
        mask = split == name
        if not mask.any():
            raise ValueError(f"it holds no image of {name}")
        order = np.argsort(images[mask], kind="stable")  # one order for all runs, so that they pair up
        pick = np.flatnonzero(mask)[order]
        found[name] = Predictions(
            images=images[pick], labels=labels[pick], groups=None if groups is None else groups[pick], logits=logits[pick]
        )
    if labels.ndim == 2:
        told = found.get("val")
        thresholds = np.zeros(labels.shape[1]) if told is None else best_thresholds(told.logits, told.labels)
        return {name: replace(own, thresholds=thresholds) for name, own in found.items()}
    return found


def _labels(table: pa.Table, classes: int) -> np.ndarray:
    """Return the labels as bool [N, C]. Raises ValueError."""
    rows = table["labels"].to_pylist()
    if any(row is None or len(row) != classes or not all(type(v) is bool for v in row) for row in rows):
        raise ValueError("its labels are not a yes or no for each class")
    return np.array(rows, bool).reshape(len(rows), classes)


def _logits(table: pa.Table) -> np.ndarray:
    """Return the logits as float64 [N, C]."""
    rows = table["logits"].combine_chunks()
    values = np.array(rows.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    widths = {len(row) for row in rows}
    if len(widths) != 1 or widths == {0}:
        raise ValueError("its logits are not of one number of classes")
    if not np.isfinite(values).all():
        raise ValueError("logits in it are not finite")
    return values.reshape(len(table), -1)


def _groups(table: pa.Table) -> np.ndarray | None:
    missing = table["group"].null_count
    if missing not in (0, len(table)):
        raise ValueError("groups are known of some images alone")
    return None if missing else table["group"].to_numpy()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
