"""Distance of the weights from where they began, epoch by epoch."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from analysis.why.measures import distance_by_epoch

TITLE = "How far do the weights move, and when?"
NOTE = (
    "Distance from the pretrained weights as a share of their norm. It is the root mean square over the stages below the "
    "head, where frozen stages count as 0. Thick lines: means over confirm runs. Thin lines: single runs. If harm comes "
    "early, the first epoch covers most of the distance."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per run and epoch."""
    runs = frames.at_largest()
    if not len(runs):
        return pd.DataFrame()
    far = distance_by_epoch(frames.epochs).merge(runs[["trial_id", "question", "strategy"]], on="trial_id")
    moving = far.groupby(["question", "strategy"]).distance.transform("max") > 0  # a probe moves nothing below the head
    return far[moving]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No confirmed strategy moves anything below the head.")
    figure, places = facets(frame.question, height=380)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            for _, run in own.groupby("trial_id", sort=False):
                figure.add_scatter(
                    x=[0, *run.epoch], y=[0, *run.distance], mode="lines", line={"color": colour(strategy), "width": 1}, opacity=0.35,
                    showlegend=False, legendgroup=strategy, hoverinfo="skip", **at,
                )  # fmt: skip
            mean = own.groupby("epoch").distance.mean()
            figure.add_scatter(
                x=[0, *mean.index],
                y=[0, *mean],
                mode="lines+markers",
                line={"color": colour(strategy), "width": 2.5},
                marker={"symbol": symbol(strategy), "size": 8},
                hovertemplate="epoch %{x}: %{y:.3f}<extra>" + label(strategy) + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="distance, share of the norm", rangemode="tozero", col=1)
    return styled(figure)
