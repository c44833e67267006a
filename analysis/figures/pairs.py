"""Paired differences between strategies: a forest plot."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import OKABE_ITO, empty, label, styled
from analysis.verdict import Findings
from study.scoring.metric import Metric

TITLE = "Differences between strategies"
NOTE = (
    "{Measured} on test, on the same images. The intervals hold for all pairs of the study at once, like Holm's p. "
    "Shaded: differences that are not worth having. An interval that contains zero names no winner."
)
WORDS = {
    "beats": "a winner, by what is worth having",
    "better": "a winner",
    "better_by_little": "a winner, by less than is worth having",
    "equivalent": "no difference worth having",
    "undecided": "undecided",
    "not_comparable": "not comparable",
}
COLUMNS = [
    "question", "a", "b", "difference", "low", "high", "simultaneous_low", "simultaneous_high", "a_better", "within_margin", "b_better",
    "p", "p_holm", "seeds", "verdict", "margin",
]  # fmt: skip


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    if not len(findings.pairs):
        return pd.DataFrame()
    table = findings.pairs.copy()
    table["question"] = [Question.of(r) for r in table.to_dict("records")]
    table["margin"] = frames.study.margin / 100
    return marked(table[COLUMNS], frames.scored_by)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No two strategies have been confirmed on the same data.")
    figure, metric = go.Figure(), metric_in(frame)
    names = [f"{label(r.question.name)}<br><b>{label(r.a)}</b> or <b>{label(r.b)}</b>" for r in frame.itertuples()]
    margin = 100 * float(frame.margin.iloc[0])
    figure.add_vrect(x0=-margin, x1=margin, fillcolor="rgba(128,128,128,.18)", line_width=0)
    figure.add_vline(x=0, line_width=1, line_color="rgba(128,128,128,.9)")
    tint = dict(zip(WORDS, (OKABE_ITO[0], OKABE_ITO[5], OKABE_ITO[2], OKABE_ITO[2], OKABE_ITO[6], OKABE_ITO[4]), strict=True))
    for verdict in dict.fromkeys(frame.verdict):
        own = frame[frame.verdict == verdict]
        shown = own[["simultaneous_low", "simultaneous_high", "p_holm", "a_better", "within_margin", "b_better"]].copy()
        shown.iloc[:, :2] *= 100
        figure.add_scatter(
            x=100 * own.difference,
            y=[names[k] for k in own.index],
            mode="markers",
            name=WORDS[verdict],
            marker={"size": 11, "color": tint[verdict]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": 100 * (own.simultaneous_high - own.difference),
                "arrayminus": 100 * (own.difference - own.simultaneous_low),
                "thickness": 2,
                "color": tint[verdict],
            },
            customdata=shown,
            hovertemplate="%{x:+.1f} [%{customdata[0]:+.1f}, %{customdata[1]:+.1f}] " + metric.unit + "<br>Holm p %{customdata[2]:.3f}<br>"
            "first better by more than the margin %{customdata[3]:.2f}, within it %{customdata[4]:.2f}, second better "
            "%{customdata[5]:.2f}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text=_axis(frame, metric))
    return styled(figure, height=130 + 58 * len(frame))


def _axis(frame: pd.DataFrame, metric: Metric) -> str:
    """Return the title of the axis. It names the strategies of a single pair, and says first and second where there are several."""
    named = frame[["a", "b"]].drop_duplicates()
    first, other = (label(v) for v in named.iloc[0]) if len(named) == 1 else ("first", "second")
    return f"← {other} better · {metric.measured} · {first} better →"
