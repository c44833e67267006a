"""The figures, in the order of the page. To add one, write a file with `compute` and `draw`, and add its line here.

Every figure is `compute(frames, findings) -> tidy frame` (all the thinking) and `draw(frame) -> Figure` (none). The same file draws a
figure along each of `analysis.data.axes`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Protocol

import pandas as pd
import plotly.graph_objects as go

from analysis.data.axes import IMAGES, PIXELS, STEPS, Axis
from analysis.data.frames import Frames
from analysis.figures import (
    calibration,
    class_differences,
    confusion,
    cost,
    importance,
    learning_curves,
    pairs,
    parallel,
    size_differences,
    sizes,
    slices,
    strategies,
    thresholds,
    tuning_curves,
    tuning_seconds,
    why_background,
    why_corruptions,
    why_distance,
    why_features,
    why_forgetting,
    why_memorisation,
    why_probes,
)
from analysis.verdict import Findings
from study.scoring.metric import Metric


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    name: str
    section: str
    title: str
    note: str
    compute: Callable[[Frames, Findings], pd.DataFrame]
    draw: Callable[[pd.DataFrame], go.Figure]
    optional: bool = False  # of few studies: where it has nothing to show, no table is written and nothing is said of it

    def note_in(self, metric: Metric) -> str:
        """The note, of a study that is scored by `metric`."""
        measured = f"{metric.measured[0].upper()}{metric.measured[1:]}" if metric.higher else f"What is saved: {metric.measured}"
        words = {"{metric}": metric.words, "{Measured}": measured, "{nothing}": "0" if metric.higher else "the worst score"}
        out = self.note
        for place, own in words.items():
            out = out.replace(place, own)
        return out


class FigureFile(Protocol):
    """The interface of a file of this folder."""

    __name__: str
    TITLE: str
    NOTE: str

    def compute(self, frames: Frames, findings: Findings) -> pd.DataFrame: ...
    def draw(self, frame: pd.DataFrame) -> go.Figure: ...


def _spec(module: FigureFile, section: str, optional: bool = False) -> FigureSpec:
    return FigureSpec(
        name=module.__name__.rpartition(".")[2],
        section=section,
        title=module.TITLE,
        note=module.NOTE,
        compute=module.compute,
        draw=module.draw,
        optional=optional,
    )


def _along(module: ModuleType, name: str, axis: Axis) -> FigureSpec:
    return FigureSpec(
        name=name,
        section="When",
        title=module.title(axis),
        note=module.note(axis),
        compute=partial(module.compute, axis=axis),
        draw=partial(module.draw, axis=axis),
        optional=axis is not IMAGES,
    )


FIGURES: tuple[FigureSpec, ...] = (
    _along(sizes, "sizes", IMAGES),
    _along(size_differences, "size_differences", IMAGES),
    _along(sizes, "steps", STEPS),
    _along(size_differences, "step_differences", STEPS),
    _along(sizes, "pixels", PIXELS),
    _along(size_differences, "pixel_differences", PIXELS),
    _spec(strategies, "Strategies"),
    _spec(pairs, "Differences"),
    _spec(why_features, "Why"),
    _spec(why_probes, "Why"),
    _spec(why_distance, "Why"),
    _spec(why_forgetting, "Why"),
    _spec(why_memorisation, "Why"),
    _spec(why_background, "Why"),
    _spec(why_corruptions, "Why"),
    _spec(tuning_curves, "Tuning"),
    _spec(tuning_seconds, "Tuning"),
    _spec(cost, "Cost"),
    _spec(confusion, "Errors"),
    _spec(class_differences, "Errors"),
    _spec(calibration, "Errors"),
    _spec(thresholds, "Errors", optional=True),
    _spec(learning_curves, "Training"),
    _spec(parallel, "Search"),
    _spec(slices, "Search"),
    _spec(importance, "Search"),
)
