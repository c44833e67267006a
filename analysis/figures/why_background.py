"""What a network answers by, the subject or its background."""

import pandas as pd
import plotly.graph_objects as go

from analysis.frames import Frames
from analysis.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings

TITLE = "With the subject or its background changed"
NOTE = (
    "Accuracy on the same validation images (those whose class shows a subject), the subject being what stands out by its green. Large marks: mean over "
    "runs; small: each run. What is lost from the fourth line to the fifth was known by the background alone."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """One row a run and change: accuracy, a share."""
    found, runs = frames.measured("background"), frames.confirmed()
    if not len(found) or not len(runs):
        return pd.DataFrame()
    runs = runs.assign(question=frames.questions(runs))[["trial_id", "question", "strategy", "seed"]]
    return found.merge(runs, on="trial_id")[["question", "strategy", "seed", "change", "images", "accuracy"]]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("background"))
    changes = list(dict.fromkeys(frame.change))
    strategies = list(dict.fromkeys(frame.strategy))
    figure, places = facets(frame.question, height=170 + 22 * len(changes) * len(strategies), horizontal_spacing=0.2)
    for question, (at,) in places.items():
        for k, strategy in enumerate(strategies):
            own = frame[(frame.question == question) & (frame.strategy == strategy)]
            own = own.assign(height=[changes.index(c) + 0.7 * ((k + 0.5) / len(strategies) - 0.5) for c in own.change])
            figure.add_scatter(
                x=100 * own.accuracy, y=own.height, mode="markers", marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 6, "opacity": 0.5},
                showlegend=False, legendgroup=strategy, hovertemplate="%{x:.1f} %<extra>" + label(strategy) + "</extra>", **at,
            )  # fmt: skip
            mean = own.groupby("change", sort=False)[["accuracy", "height"]].mean()
            figure.add_scatter(
                x=100 * mean.accuracy, y=mean.height, mode="markers", marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 13},
                hovertemplate="mean %{x:.1f} %<extra>" + label(strategy) + "</extra>", **named(strategy), **at,
            )  # fmt: skip
        ticks = [label(c).replace("background of", "background<br>of") for c in changes]
        figure.update_yaxes(tickvals=list(range(len(changes))), ticktext=ticks, range=[len(changes) - 0.5, -0.5], zeroline=False, **at)
    figure.update_xaxes(title_text="accuracy, %", rangemode="tozero")
    return styled(figure)
