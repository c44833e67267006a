"""Learning curves of the chosen configurations, with the gap between training and validation."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.scoring.metric import Metric

TITLE = "Learning curves"
NOTE = (
    "Means over the confirm runs, or over search runs where no run is confirmed yet. Full line: validation {metric}. "
    "Dotted: {metric} on a fixed part of the training images, in eval mode without augmentation. The gap between them is "
    "overfitting. Search runs score training images only in epochs that may be kept."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t, e = frames.trials, frames.epochs
    if not len(t) or not len(e):
        return pd.DataFrame()
    confirmed = frames.confirmed()
    shown = confirmed if len(confirmed) else t[t.trial_id.isin(frames.chosen.values())]
    if not len(shown):
        return pd.DataFrame()
    shown = shown.assign(question=frames.questions(shown))
    merged = e.merge(shown[["trial_id", "question", "strategy"]], on="trial_id")
    val, train = _columns(frames.scored_by)
    grouped = merged.groupby(["question", "strategy", "epoch"], sort=False)[[val, train, "train/loss", "val/nll"]].mean().reset_index()
    grouped["gap"] = grouped[train] - grouped[val]
    return marked(grouped, frames.scored_by)


def _columns(metric: Metric) -> tuple[str, str]:
    """Return the columns of the metric's score on validation and on training images."""
    return metric.recorded, f"train/{metric.key}"


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No chosen configuration has completed an epoch yet.")
    asked = metric_in(frame)
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            for metric, dash in zip(_columns(asked), ("solid", "dot"), strict=True):
                seen = own.dropna(subset=[metric])
                figure.add_scatter(
                    x=seen.epoch,
                    y=asked.shown(seen[metric]),
                    mode="lines+markers",
                    line={"color": colour(strategy), "dash": dash, "width": 2.5},
                    marker={"symbol": symbol(strategy)},
                    showlegend=metric.startswith("val"),
                    hovertemplate="epoch %{x}: %{y:.1f}<extra>" + label(strategy) + f", {metric.split('/')[0]}</extra>",
                    **named(strategy),
                    **at,
                )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text=f"{asked.words}, {asked.unit}", col=1)
    return styled(figure)
