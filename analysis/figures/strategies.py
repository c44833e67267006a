"""Strategy comparison on test: mean, interval, and every seed as a point."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.frames import Frames
from analysis.question import Question
from analysis.theme import colour, empty, label, styled, symbol
from analysis.verdict import Findings

TITLE = "Test scores of the confirmed configurations"
NOTE = "Large mark: mean over seeds. Bar: 95 % interval over seeds and test images. Small marks: each seed. Thin lines join runs with the same seed, to see whether strategies rise and fall together; the verdict pairs over images, not over seeds."
METRICS = {"macro_f1": "macro-F1", "accuracy": "accuracy", "macro_precision": "macro precision", "macro_recall": "macro recall"}


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Rows of kind "mean" (with low, high) and "seed"."""
    if not len(findings.strategies):
        return pd.DataFrame()
    means = findings.strategies.assign(kind="mean", value=lambda t: t["mean"])
    seeds = findings.seeds.assign(kind="seed", value=lambda t: t["score"])
    both = pd.concat([means, seeds], ignore_index=True)
    both["question"] = [Question.of(r) for r in both.to_dict("records")]
    return both[["question", "strategy", "metric", "kind", "value", "low", "high", "seed"]]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on the test set yet.")
    questions = list(dict.fromkeys(frame.question))
    figure = make_subplots(
        rows=len(questions),
        cols=len(METRICS),
        subplot_titles=[label(t) for t in METRICS.values()],
        horizontal_spacing=0.05,
        vertical_spacing=0.5 / max(len(questions), 1) * 0.4,
    )
    for row, question in enumerate(questions, 1):
        for column, metric in enumerate(METRICS, 1):
            block = frame[(frame.question == question) & (frame.metric == metric)]
            _join_seeds(figure, block[block.kind == "seed"], {"row": row, "col": column})
            for strategy in dict.fromkeys(block.strategy):
                own = block[block.strategy == strategy]
                seeds, mean = own[own.kind == "seed"], own[own.kind == "mean"].iloc[0]
                figure.add_scatter(
                    x=100 * seeds.value,
                    y=[label(strategy)] * len(seeds),
                    mode="markers",
                    marker={"color": colour(strategy), "size": 6, "opacity": 0.55, "symbol": symbol(strategy)},
                    showlegend=False,
                    hovertemplate="seed %{customdata}: %{x:.1f}<extra></extra>",
                    customdata=seeds.seed.astype("Int64").astype(str),
                    row=row,
                    col=column,
                )
                error = (
                    {
                        "type": "data",
                        "symmetric": False,
                        "array": [100 * (mean.high - mean.value)],
                        "arrayminus": [100 * (mean.value - mean.low)],
                        "thickness": 2,
                        "color": colour(strategy),
                    }
                    if mean.low == mean.low
                    else None
                )
                figure.add_scatter(
                    x=[100 * mean.value],
                    y=[label(strategy)],
                    mode="markers",
                    error_x=error,
                    marker={"color": colour(strategy), "size": 12, "symbol": symbol(strategy)},
                    showlegend=False,
                    hovertemplate=f"{label(strategy)}: %{{x:.1f}} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]<extra></extra>",
                    row=row,
                    col=column,
                )
            order = [label(s) for s in dict.fromkeys(block.strategy)]
            figure.update_yaxes(categoryorder="array", categoryarray=order, row=row, col=column)
            if column > 1:
                figure.update_yaxes(showticklabels=False, row=row, col=column)
            else:
                figure.update_yaxes(title_text="<br>".join(label(part) for part in question.lines), row=row, col=1)
            figure.update_xaxes(title_text="points" if row == len(questions) else "", row=row, col=column)
    return styled(figure, height=150 + 170 * len(questions))


def _join_seeds(figure: go.Figure, seeds: pd.DataFrame, at: dict[str, int]) -> None:
    """One trace, lifted where a seed ends; strategies in the order of the axis. A seed that one strategy lacks is joined past it."""
    x: list[float | None] = []
    y: list[str | None] = []
    for _, own in seeds.groupby("seed", sort=False):
        if len(own) > 1:
            x += [*(100 * own.value), None]
            y += [*map(label, own.strategy), None]
    if x:
        line = {"color": "rgba(128,128,128,.35)", "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, showlegend=False, hoverinfo="skip", **at)
