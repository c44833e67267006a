"""Quality against cost: every search trial, and the Pareto front of each question."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.records import OBJECTIVE

TITLE = "Score against cost"
NOTE = (
    "Each mark is a trial of the search: its seconds and its best validation macro-F1. The line is the Pareto front: no "
    "trial was both cheaper and better."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    own = frames.scored()
    if not len(own):
        return own
    own = own.assign(score=own[OBJECTIVE]).sort_values(["question", "seconds", "score"], kind="stable")
    own["front"] = own.groupby("question")["score"].transform(lambda s: s > s.cummax().shift(fill_value=-1))
    return own[["question", "strategy", "trial_id", "number", "seconds", "score", "outcome", "front"]].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        front = block[block.front]
        figure.add_scatter(
            x=front.seconds,
            y=100 * front.score,
            mode="lines",
            line={"color": "rgba(128,128,128,.7)", "shape": "hv", "dash": "dot"},
            showlegend=False,
            hoverinfo="skip",
            **at,
        )
        for strategy, own in block.groupby("strategy", sort=False):
            figure.add_scatter(
                x=own.seconds,
                y=100 * own.score,
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10, "opacity": 0.85},
                customdata=own[["number", "outcome"]],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]}: %{y:.1f} points in %{x:.0f} s<extra>"
                + label(strategy)
                + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_xaxes(title_text="seconds (log)", type="log")
    figure.update_yaxes(title_text="validation macro-F1, points", col=1)
    return styled(figure)
