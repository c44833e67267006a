"""Validation score along each hyperparameter."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import broken, colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.scoring.metric import Metric

TITLE = "Each hyperparameter alone"
NOTE = (
    "Open marks are trials that were stopped early. If the best value lies at the end of an axis, the range was too narrow. "
    "Of many trials, 400 a strategy are drawn, evenly spaced, the best among them."
)
MOST = 400  # marks a strategy and panel: more hide one another, and thousands make a page heavy


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per trial and hyperparameter. `attrs["scales"]` holds the kind of axis of each hyperparameter."""
    own = frames.scored()
    if not len(own):
        return own
    columns = [c for name in frames.scales if (c := f"hp/{name}") in own]
    long = own.melt(["question", "strategy", "trial_id", "outcome", frames.scored_by.recorded], columns, "hyperparameter", "value").dropna(
        subset=["value"]
    )
    long = long.assign(hyperparameter=long.hyperparameter.str.removeprefix("hp/")).reset_index(drop=True)
    long.attrs["scales"] = frames.scales
    return marked(long, frames.scored_by)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    metric = metric_in(frame)
    names, scales = list(dict.fromkeys(frame.hyperparameter)), frame.attrs["scales"]
    figure, places = facets(frame.question, height=370, across=names, horizontal_spacing=0.02)
    for question, panels in places.items():
        for name, at in zip(names, panels, strict=True):
            block = frame[(frame.question == question) & (frame.hyperparameter == name)]
            for strategy, every in block.groupby("strategy", sort=False):
                own = _few(every, metric)
                shapes = [symbol(strategy) + ("-open" if o == "stopped" else "") for o in own.outcome]
                figure.add_scatter(
                    x=own.value.map(label) if scales[name] == "category" else own.value.astype(float),
                    y=metric.shown(own[metric.recorded]),
                    mode="markers",
                    marker={"color": colour(strategy), "symbol": shapes, "size": 8},
                    hovertemplate=f"{name} %{{x:.3g}}: %{{y:.1f}}<extra>{label(strategy)}</extra>",
                    **named(strategy),
                    **at,
                )
            _scale(figure, frame[frame.hyperparameter == name], scales[name], at)
        figure.update_yaxes(title_text=f"val {metric.words}", **panels[0])
    for at, name in zip(panels, names, strict=True):
        figure.update_xaxes(title_text=broken(name), **at)
    return styled(figure)


def _few(block: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    if len(block) <= MOST:
        return block
    kept = np.linspace(0, len(block) - 1, MOST - 1).round().astype(int)
    return block.iloc[np.union1d(kept, block[metric.recorded].to_numpy().argmax())]


def _scale(figure: go.Figure, own: pd.DataFrame, scale: str, at: dict[str, int]) -> None:
    if scale == "log":
        decades = math.log10(own.value.max() / own.value.min())
        figure.update_xaxes(type="log", exponentformat="power", dtick=1 if decades < 4 else 2, **at)
    elif scale == "category":
        figure.update_xaxes(type="category", **at)
    else:
        figure.update_xaxes(exponentformat="power", **at)
