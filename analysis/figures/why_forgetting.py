"""Forgetting of the original task against the score on the new one, along the way back between the two networks."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings

TITLE = "The old task against the new one"
NOTE = (
    "Each mark is a run. Across: validation images on which the head that the network came with still gives its old answer. "
    "Upwards: macro-F1 on the new task. Lines lead back from the tuned weights to the pretrained ones, in steps of a "
    "quarter. If a line goes right without going down, a network on the way is better for free."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per run and share of the tuned weights: `agreement` and `macro_f1`, both shares."""
    found = frames.measured_runs("way_back")
    return found[["question", "strategy", "seed", "share", "agreement", "macro_f1"]] if len(found) else found


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("way_back"))
    figure, places = facets(frame.question, height=420)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            mean = own.groupby("share")[["agreement", "macro_f1"]].mean().sort_index(ascending=False)
            if mean.agreement.max() - mean.agreement.min() > 1e-9:  # nothing below the head moved: there is no way to go back
                figure.add_scatter(
                    x=100 * mean.agreement, y=100 * mean.macro_f1, mode="lines+markers", line={"color": colour(strategy), "width": 1.5},
                    marker={"symbol": "circle-open", "size": 6, "color": colour(strategy)},
                    showlegend=False, legendgroup=strategy, text=[f"{s:.0%} tuned" for s in mean.index],
                    hovertemplate="%{text}: %{y:.1f} points, %{x:.0f} % as before<extra>" + label(strategy) + "</extra>", **at,
                )  # fmt: skip
            tuned = own[own.share == 1]
            figure.add_scatter(
                x=100 * tuned.agreement,
                y=100 * tuned.macro_f1,
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10, "opacity": 0.85},
                hovertemplate="%{y:.1f} points, %{x:.0f} % as before<extra>" + label(strategy) + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_xaxes(title_text="answers as before, % of images", range=[-4, 104])
    figure.update_yaxes(title_text="macro-F1 on the new task, points", rangemode="tozero", col=1)
    return styled(figure)
