"""A measurement of a network's confidence, before and after one temperature fitted on validation logits (Guo et al. 2017)."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from study.measure.base import Finished, Measurement, NotMeasured
from study.metrics import CALIBRATION_BINS, bin_of, calibration_error, fit_temperature, log_shares


class Calibration(Measurement):
    """Calibration in two rows, `temperature` 1 and the fitted one: NLL (nats), Brier score, expected calibration error on test.

    Each row has, per bin of confidence, the images, their mean confidence and accuracy (null where the bin is empty).
    """

    name: ClassVar[str] = "calibration"
    splits: ClassVar[tuple[str, ...]] = ("val", "test")

    def rows(self, finished: Finished) -> pa.Table:
        found = finished.earlier("predictions")
        if found is None:
            raise NotMeasured("it rests on predictions, which were not made")
        split, labels = np.asarray(found["split"].to_pylist()), found["label"].to_numpy()
        logits = np.stack(found["logits"].to_numpy(zero_copy_only=False)).astype(float)
        val, test = split == "val", split == "test"
        fitted = fit_temperature(logits[val], labels[val])
        return pa.Table.from_pylist([{"temperature": t, **quality(logits[test] / t, labels[test])} for t in (1.0, fitted)], schema=SCHEMA)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        before, after = rows.to_pylist()
        return {
            "temperature": after["temperature"],
            "nll_before": before["nll"],
            "ece_before": before["ece"],
            "nll": after["nll"],
            "ece": after["ece"],
        }


SCHEMA = pa.schema(
    {
        "temperature": pa.float64(),
        "images": pa.int64(),
        "nll": pa.float64(),
        "brier": pa.float64(),
        "ece": pa.float64(),
        "bin_images": pa.list_(pa.int64()),
        "bin_confidence": pa.list_(pa.float64()),
        "bin_accuracy": pa.list_(pa.float64()),
    }
)


def quality(logits: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    """Return NLL, Brier score (sum over classes), expected calibration error and its bins, of logits [N, C]."""
    logs = log_shares(logits)
    shares = np.exp(logs)
    truth = np.eye(logits.shape[1])[labels]
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    bins = bin_of(confidence)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)

    def means(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(bins, weights=values, minlength=CALIBRATION_BINS)
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    return {
        "images": len(labels),
        "nll": float(-logs[np.arange(len(labels)), labels].mean()),
        "brier": float(((shares - truth) ** 2).sum(axis=1).mean()),
        "ece": calibration_error(shares, labels),
        "bin_images": count.tolist(),
        "bin_confidence": means(confidence),
        "bin_accuracy": means(right.astype(float)),
    }
