"""Confusion on test, summed over seeds: A, B and A minus B, rows normalised, counts on hover."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import statistics as st
from analysis.frames import Frames
from analysis.question import Question
from analysis.theme import empty, label, styled
from analysis.verdict import Findings

TITLE = "Where they err: confusion matrices"
NOTE = "Rows: truth, in per cent of the class; columns: what was said. Right: A minus B in percentage points, blue where A says it more often. The two strategies with the highest means."
MOST_CLASSES = 30


def totals(frames: Frames, findings: Findings) -> dict[tuple[Question, str], tuple[np.ndarray, list[str]]]:
    """Summed test confusion of the confirm runs by (question, strategy), best mean first within a question."""
    out: dict[tuple[Question, str], tuple[np.ndarray, list[str]]] = {}
    if not len(findings.strategies):
        return out
    confirmed = frames.confirmed()
    runs = confirmed.assign(question=frames.questions(confirmed)).groupby(["question", "strategy"])
    ranked = findings.strategies[findings.strategies.metric == "macro_f1"].sort_values("mean", ascending=False)
    for row in ranked.to_dict("records"):
        key = Question.of(row), row["strategy"]
        own = runs.get_group(key)
        classes = frames.classes[own.iloc[0].cell]
        total = np.zeros((len(classes), len(classes)))
        for trial_id in own.trial_id:
            if (test := frames.predictions(trial_id).get("test")) is not None:
                total += st.confusions(test.logits.argmax(axis=1), test.labels, len(classes))
        out[key] = (total, classes)
    return out


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    rows = []
    for (question, strategy), (total, classes) in totals(frames, findings).items():
        share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
        for i, truth in enumerate(classes):
            for j, said in enumerate(classes):
                rows.append(
                    {
                        "question": question,
                        "strategy": strategy,
                        "truth": truth,
                        "said": said,
                        "truth_index": i,
                        "said_index": j,
                        "count": int(total[i, j]),
                        "share": share[i, j],
                    }
                )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on the test set yet.")
    questions = [q for q in dict.fromkeys(frame.question) if frame[frame.question == q].strategy.nunique() >= 1]
    titles, blocks = [], []
    for question in questions:
        own = frame[frame.question == question]
        pair = list(dict.fromkeys(own.strategy))[:2]
        blocks.append((question, own, pair))
        titles += [
            f"{label(question.name)}: {label(pair[0])}",
            label(pair[1]) if len(pair) > 1 else "",
            f"{label(pair[0])} − {label(pair[1])}" if len(pair) > 1 else "",
        ]
    figure = make_subplots(
        rows=len(questions), cols=3, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.34 / max(len(questions), 1)
    )
    for row, (_question, own, pair) in enumerate(blocks, 1):
        size = int(own.truth_index.max()) + 1
        names = [label(n) for n in own[own.said_index == 0].drop_duplicates("truth_index").sort_values("truth_index").truth]
        ticks = names if len(set(names)) == len(names) and size <= MOST_CLASSES else [f"{k}" for k in range(size)]
        shares = []
        for column, strategy in enumerate(pair, 1):
            mine = own[own.strategy == strategy].sort_values(["truth_index", "said_index"])
            share, count = mine.share.to_numpy().reshape(size, size), mine["count"].to_numpy().reshape(size, size)
            shares.append(share)
            figure.add_heatmap(
                z=100 * share,
                x=ticks,
                y=ticks,
                customdata=count,
                zmin=0,
                zmax=100,
                colorscale="Blues",
                showscale=False,
                hovertemplate="%{y} said to be %{x}: %{z:.0f} % (%{customdata:d} images)<extra></extra>",
                text=np.round(100 * share).astype(int) if size <= 12 else None,
                texttemplate="%{text}" if size <= 12 else None,
                row=row,
                col=column,
            )
        if len(shares) == 2:
            _draw_change(figure, 100 * (shares[0] - shares[1]), ticks, row)
        for column in (1, 2, 3):
            figure.update_yaxes(type="category", dtick=1, autorange="reversed", showticklabels=column == 1, row=row, col=column)
            figure.update_xaxes(type="category", dtick=1, row=row, col=column)
    figure.update_xaxes(tickangle=-45)
    return styled(figure, height=110 + 390 * len(questions))


def _draw_change(figure: go.Figure, change: np.ndarray, ticks: list[str], row: int) -> None:
    """`change` [C, C] in percentage points, both directions on one scale."""
    most = max(float(np.abs(change).max()), 1.0)
    figure.add_heatmap(
        z=change,
        x=ticks,
        y=ticks,
        zmin=-most,
        zmax=most,
        colorscale="RdBu",
        showscale=False,
        hovertemplate="%{y} said to be %{x}: %{z:+.1f} points<extra></extra>",
        text=np.round(change).astype(int) if len(change) <= 12 else None,
        texttemplate="%{text:+d}" if len(change) <= 12 else None,
        row=row,
        col=3,
    )
