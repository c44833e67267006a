"""Axes that a score is compared along: training images, steps of training, pixels.

An axis is one column of a question that varies while the rest is fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from analysis.data.frames import Frames
from analysis.data.question import Question

Name = Literal["images", "steps", "pixels"]
Places = Callable[[Frames], dict[Question, float]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis, with the words for it. All axes are drawn and interpolated on a logarithmic scale."""

    name: Name
    column: str  # of a question
    rest: Any  # the column's value in the question that all places on the axis have in common
    places: Places  # by question, where it stands: what its confirm runs saw
    unit: str  # behind a number
    title: str  # "... against the number of training images"
    label: str  # of the drawn axis
    start: str  # as `beginning` has it; {} is the number
    changes: str  # "whether the pick changes with ..."
    tuned: str  # "each size was tuned anew"
    one_place: str  # what a study says of it that has one
    extrapolates: bool = False  # whether ten times as much is asked
    training: bool = False  # whether it is the length of training: then a strategy that was cut short is an answer, no doubt

    def without(self, question: Question) -> Question:
        """Return the question that all its neighbours on this axis have in common."""
        return replace(question, **{self.column: self.rest})

    def beginning(self, question: Question, place: float) -> str:
        """Return how a sentence begins: "with about 300 images like these", "trained for 640 steps (20 epochs)"."""
        return self.start.format(self.rounded(place) if self.extrapolates else f"{place:,.0f}", epochs=_epochs(question))

    def shown(self, number: float) -> str:
        """Return an estimated place with its unit, rounded to two digits where it is more than a hundred."""
        return f"{self.rounded(number)} {self.unit}"

    def rounded(self, number: float) -> str:
        return f"{float(f'{number:.2g}') if number >= 100 else round(number):,.0f}"

    def tick(self, question: Question, place: float) -> str:
        """Return the tick label of a measured place, with the epochs that its steps amount to."""
        again = f"<br>{_epochs(question)}" if self.training else ""
        return f"{place:,.0f}{again}"


def _epochs(question: Question) -> str:
    return f"{question.max_epochs} epoch{'s' * (question.max_epochs > 1)}"


def _steps(frames: Frames) -> dict[Question, float]:
    """Return by question the optimiser steps of a whole confirm run."""
    return {q: float(frames.confirmed_protocol(q).steps(max(round(n), 1))) for q, n in frames.training_images().items()}


def _pixels(frames: Frames) -> dict[Question, float]:
    """Return by question the side of the confirm runs' images in pixels."""
    return {q: float(frames.confirmed_protocol(q).image_size) for q in frames.training_images()}


IMAGES = Axis(
    name="images",
    column="train_fraction",
    rest=1.0,
    places=Frames.training_images,
    unit="images",
    title="the number of training images",
    label="training images (log)",
    start="with about {} images like these",
    changes="their number",
    tuned="Each size",
    one_place="the study has one size of the training set",
    extrapolates=True,
)
STEPS = Axis(
    name="steps",
    column="max_epochs",
    rest=0,
    places=_steps,
    unit="steps",
    title="the length of training",
    label="optimiser steps of a run (log)",
    start="trained for {} steps ({epochs})",
    changes="the length of training",
    tuned="Each budget",
    one_place="the study has one budget",
    training=True,
)
PIXELS = Axis(
    name="pixels",
    column="image_size",
    rest=0,
    places=_pixels,
    unit="px",
    title="the size of images",
    label="pixels a side (log)",
    start="at {} px",
    changes="the size of images",
    tuned="Each size of images",
    one_place="the study has one size of images",
)
AXES = (IMAGES, STEPS, PIXELS)
