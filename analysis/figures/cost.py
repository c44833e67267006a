"""Quality against cost: every search trial, and the Pareto front of each question."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.load import Frames
from analysis.theme import colour, empty, label, styled, symbol
from analysis.verdict import Findings, question_name
from study.records import OBJECTIVE

TITLE = "Quality against cost"
NOTE = "One mark a search trial: seconds it took, best validation macro-F1 it reached. The line is the Pareto front: no trial was both cheaper and better."


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t = frames.trials
    if not len(t) or OBJECTIVE not in t:
        return pd.DataFrame()
    own = t[(t.stage == "search") & t[OBJECTIVE].notna()].copy()
    own["question"] = [question_name(r) for r in own.to_dict("records")]
    own["score"] = own[OBJECTIVE]
    own = own.sort_values(["question", "seconds", "score"], kind="stable")
    own["front"] = own.groupby("question")["score"].transform(lambda s: s > s.cummax().shift(fill_value=-1))
    return own[["question", "strategy", "trial_id", "number", "seconds", "score", "outcome", "front"]].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    questions = list(dict.fromkeys(frame.question))
    figure = make_subplots(rows=1, cols=len(questions), subplot_titles=[label(q) for q in questions])
    shown: set[str] = set()
    for column, question in enumerate(questions, 1):
        block = frame[frame.question == question]
        front = block[block.front]
        figure.add_scatter(
            x=front.seconds,
            y=100 * front.score,
            mode="lines",
            line={"color": "rgba(128,128,128,.7)", "shape": "hv", "dash": "dot"},
            showlegend=False,
            hoverinfo="skip",
            row=1,
            col=column,
        )
        for strategy in dict.fromkeys(block.strategy):
            own = block[block.strategy == strategy]
            figure.add_scatter(
                x=own.seconds,
                y=100 * own.score,
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10, "opacity": 0.85},
                name=label(strategy),
                legendgroup=strategy,
                showlegend=strategy not in shown,
                customdata=own[["number", "outcome"]],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]}: %{y:.1f} points in %{x:.0f} s<extra>"
                + label(strategy)
                + "</extra>",
                row=1,
                col=column,
            )
            shown.add(strategy)
    figure.update_xaxes(title_text="seconds (log)", type="log")
    figure.update_yaxes(title_text="validation macro-F1, points", col=1)
    return styled(figure, height=400)
