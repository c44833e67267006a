"""The network handed over in place of a compared one, and what to say of it: training length, number of images and the reasons."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.scoring.metric import DEFAULT, Metric


@dataclass(frozen=True, kw_only=True)
class Length:
    """A number of epochs that was tried, and the validation score of each of its runs at the last epoch."""

    epochs: int
    validation: tuple[float, ...]

    metric: Metric = DEFAULT

    @property
    def text(self) -> str:
        mean = self.metric.shown(sum(self.validation) / len(self.validation))
        return f"{mean:.1f} after {epochs_of(self.epochs)} ({len(self.validation)} run{'s' * (len(self.validation) != 1)})"


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The origin of a network that is handed over. Scores are higher where better."""

    epochs: int
    images: int  # it was trained on, validation images among them
    at: float  # unix time
    lengths: tuple[Length, ...]
    temperature: float
    calibration_runs: int  # whose validation images the temperature was fitted on; 0: it was not fitted
    calibration_images: int
    error: float | None  # expected calibration error to expect: on validation images that the temperature was not fitted on
    compared: float | None  # mean test score of the compared networks of its data set
    compared_strategy: str  # theirs, where it is another; else empty
    thresholds: tuple[float, ...] = ()  # of labels' logits, where an image may have several
    grown: float | None = None  # when the study first grew since
    metric: Metric = DEFAULT

    @property
    def text(self) -> str:
        """Return a few words about its training."""
        return f"{epochs_of(self.epochs)}, trained on {self.images:,} images"

    @property
    def tried(self) -> str:
        """Return how the length of its training was chosen, or "" where there was nothing to choose."""
        if len(self.lengths) < 2:
            return ""
        tried = ", ".join(n.text for n in self.lengths)
        return f"validation {self.metric.words} {tried}. Taken is the longest that is not lower by more than one standard error"

    @property
    def calibration(self) -> str:
        """Return where its temperature comes from, with the calibration error that was measured."""
        if self.thresholds:
            return (
                "no temperature: each label is said above a threshold of its own, from validation images that its runs had not trained on"
            )
        if not self.calibration_runs:
            return "no temperature: no validation predictions were kept"
        many = self.calibration_runs > 1
        fitted = (
            f"fitted on {self.calibration_images} validation images of {self.calibration_runs} run{'s' * many} of this length, "
            "which had not trained on them"
        )
        error = (
            f"expected calibration error on images it was not fitted on {100 * self.error:.1f} %"
            if self.error is not None
            else "too few images to say how well it does on others"
        )
        return f"temperature {self.temperature:.2f}, {fitted}; {error}"

    @property
    def beside(self) -> str:
        """Return the score of the compared networks in points, or "" where they have none."""
        whose = f" ({self.compared_strategy})" if self.compared_strategy else ""
        return "" if self.compared is None else f"the networks compared above{whose}: {self.metric.shown(self.compared):.1f}"

    @property
    def outdated(self) -> str:
        """Return a sentence where it was delivered before the study grew, else ""."""
        return "" if self.grown is None else f"delivered on {day(self.at)}, before the study grew on {day(self.grown)}"


def delivered_of(
    entry: Mapping[str, Any], amendments: Sequence[Mapping[str, Any]], compared: float | None, strategy: str, metric: Metric = DEFAULT
) -> Delivered:
    """Read a network's entry of delivered.json.

    `compared` is the mean test score of the networks of `strategy` that the study compared, or None.
    """
    calibration = entry.get("calibration", {})
    return Delivered(
        epochs=entry["epochs"],
        images=entry["images"],
        at=entry["at"],
        lengths=tuple(
            Length(epochs=n["epochs"], validation=tuple(n["validation"]), metric=metric) for n in entry["lengths"] if n["validation"]
        ),
        temperature=entry["temperature"],
        thresholds=tuple(entry.get("thresholds", ())),
        calibration_runs=int(calibration.get("runs") or 0),
        calibration_images=int(calibration.get("images") or 0),
        error=calibration.get("after"),
        compared=compared,
        compared_strategy=strategy,
        metric=metric,
        grown=grown_since(amendments, entry["at"]),
    )


def grown_since(amendments: Sequence[Mapping[str, Any]], at: float) -> float | None:
    """When the study first grew after that time; None where it has not. What joined beside its question is no growth."""
    return min((a["at"] for a in amendments if a["at"] > at and not a.get("beside")), default=None)


def day(at: float) -> str:
    """Return the day in UTC, as in 2026-11-30."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def epochs_of(count: int) -> str:
    """Return the number in words, as in "1 epoch" or "30 epochs"."""
    return f"{count} epoch{'s' * (count != 1)}"
