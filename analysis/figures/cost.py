"""Quality against cost: every search trial, and the Pareto front of each question."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings

TITLE = "Score against cost"
NOTE = (
    "Each mark is a trial of the search: its seconds and its best validation {metric}. The line is the Pareto front: no "
    "trial was both cheaper and better."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    own = frames.scored()
    if not len(own):
        return own
    own = own.assign(score=own[frames.scored_by.recorded]).sort_values(["question", "seconds", "score"], kind="stable")
    own["front"] = own.groupby("question")["score"].transform(lambda s: s > s.cummax().shift(fill_value=-np.inf))
    columns = ["question", "strategy", "trial_id", "number", "seconds", "score", "outcome", "front"]
    return marked(own[columns].reset_index(drop=True), frames.scored_by)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    metric = metric_in(frame)
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        front = block[block.front]
        figure.add_scatter(
            x=front.seconds,
            y=metric.shown(front.score),
            mode="lines",
            line={"color": "rgba(128,128,128,.7)", "shape": "hv", "dash": "dot"},
            showlegend=False,
            hoverinfo="skip",
            **at,
        )
        for strategy, own in block.groupby("strategy", sort=False):
            figure.add_scatter(
                x=own.seconds,
                y=metric.shown(own.score),
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10, "opacity": 0.85},
                customdata=own[["number", "outcome"]],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]}: %{y:.1f} "
                + metric.unit
                + " in %{x:.0f} s<extra>"
                + label(strategy)
                + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_xaxes(title_text="seconds (log)", type="log")
    figure.update_yaxes(title_text=f"validation {metric.words}, {metric.unit}", col=1)
    return styled(figure)
