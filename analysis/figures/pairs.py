"""Paired differences between strategies: a forest plot."""

import pandas as pd
import plotly.graph_objects as go

from analysis.frames import Frames
from analysis.question import Question
from analysis.theme import OKABE_ITO, empty, label, styled
from analysis.verdict import Findings

TITLE = "Paired differences in test macro-F1"
NOTE = "A minus B, in points, on the same images and seeds. Shaded: differences not worth having. An interval that crosses zero names no winner."
WORDS = {"a": "A beats B", "b": "B beats A", "equivalent": "no difference worth having", "undecided": "undecided"}


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    if not len(findings.pairs):
        return pd.DataFrame()
    table = findings.pairs.copy()
    table["question"] = [Question.of(r) for r in table.to_dict("records")]
    table["margin"] = frames.study.margin / 100
    return table[
        [
            "question",
            "a",
            "b",
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
            "permutation_p",
            "superiority",
            "seeds",
            "verdict",
            "more_seeds",
            "margin",
        ]
    ]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No two strategies have been confirmed on the same data.")
    figure = go.Figure()
    names = [f"{label(r.question.name)}<br><b>{label(r.a)}</b> − <b>{label(r.b)}</b>" for r in frame.itertuples()]
    margin = 100 * float(frame.margin.iloc[0])
    figure.add_vrect(x0=-margin, x1=margin, fillcolor="rgba(128,128,128,.18)", line_width=0)
    figure.add_vline(x=0, line_width=1, line_color="rgba(128,128,128,.9)")
    tint = {"a": OKABE_ITO[0], "b": OKABE_ITO[1], "equivalent": OKABE_ITO[2], "undecided": OKABE_ITO[6]}
    for verdict in dict.fromkeys(frame.verdict):
        own = frame[frame.verdict == verdict]
        figure.add_scatter(
            x=100 * own.difference,
            y=[names[k] for k in own.index],
            mode="markers",
            name=WORDS[verdict],
            marker={"size": 11, "color": tint[verdict]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": 100 * (own.high - own.difference),
                "arrayminus": 100 * (own.difference - own.low),
                "thickness": 2,
                "color": tint[verdict],
            },
            customdata=own[["low", "high", "p_holm", "permutation_p", "superiority"]].assign(low=100 * own.low, high=100 * own.high),
            hovertemplate="%{x:+.1f} [%{customdata[0]:+.1f}, %{customdata[1]:+.1f}] points<br>Holm p %{customdata[2]:.3f}, permutation p %{customdata[3]:.3f}<br>P(A > B) %{customdata[4]:.2f}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="A − B, points of macro-F1")
    return styled(figure, height=130 + 58 * len(frame))
