"""Strategies on test, one row each: mean, interval, and every seed as a point. The other metrics are in the table below."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import colour, empty, facets, label, styled, symbol
from analysis.verdict import Findings
from study.scoring.metric import Metric

TITLE = "Test scores of the strategies"
NOTE = (
    "Large marks: means over runs. Bars: 95 % intervals over runs and test images. Small marks: single runs. Thin lines "
    "join runs with the same seed, to show whether strategies rise and fall together. The verdict pairs strategies over "
    "images, not over seeds."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return rows of kind "mean" (with low, high) and "seed"."""
    if not len(findings.strategies):
        return pd.DataFrame()
    means = findings.strategies.assign(kind="mean", value=lambda t: t["mean"])
    seeds = findings.seeds.assign(kind="seed", value=lambda t: t["score"])
    both = pd.concat([means, seeds], ignore_index=True)
    both["question"] = [Question.of(r) for r in both.to_dict("records")]
    return marked(both[["question", "strategy", "metric", "kind", "value", "low", "high", "seed"]], frames.scored_by)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on the test set yet.")
    metric = metric_in(frame)
    frame = frame[frame.metric == metric.key]
    most = int(frame.groupby("question").strategy.nunique().max())
    figure, places = facets(frame.question, height=130 + 52 * most, horizontal_spacing=0.2)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        order = [str(s) for s in dict.fromkeys(block.strategy)]
        seeds = block[block.kind == "seed"].assign(height=lambda t, order=order: t.strategy.map(order.index))
        _join_seeds(figure, seeds, at, metric)
        means = block[block.kind == "mean"].set_index("strategy")
        for height, strategy in enumerate(order):
            own, mean = seeds[seeds.strategy == strategy], means.loc[strategy]
            figure.add_scatter(
                x=metric.shown(own.value), y=own.height, mode="markers", showlegend=False,
                marker={"color": colour(strategy), "size": 7, "opacity": 0.5, "symbol": symbol(strategy)},
                hovertemplate="seed %{customdata}: %{x:.1f}<extra></extra>", customdata=own.seed.astype("Int64").astype(str), **at,
            )  # fmt: skip
            low, high = metric.interval(mean.low, mean.high)
            score = metric.shown(mean.value)
            beyond = {"array": [high - score], "arrayminus": [score - low]}
            error = {"type": "data", "symmetric": False, "thickness": 2.5, "color": colour(strategy), **beyond}
            figure.add_scatter(
                x=[score], y=[height], mode="markers", error_x=error if mean.low == mean.low else None, showlegend=False,
                marker={"color": colour(strategy), "size": 15, "symbol": symbol(strategy)},
                hovertemplate=f"{label(strategy)}: %{{x:.1f}} [{low:.1f}, {high:.1f}]<extra></extra>", **at,
            )  # fmt: skip
        figure.update_yaxes(
            tickvals=list(range(len(order))),
            ticktext=[_row(s, means.loc[s], metric) for s in order],
            range=[len(order) - 0.4, -0.6],
            zeroline=False,
            **at,
        )
    figure.update_xaxes(title_text=f"{metric.words} on test, {metric.unit}")
    return styled(figure)


def _row(strategy: str, mean: pd.Series, metric: Metric) -> str:
    """Return the label of a row: "partial" over "43.6 [39.0, 48.3]"."""
    low, high = metric.interval(mean.low, mean.high)
    interval = f" [{low:.1f}, {high:.1f}]" if mean.low == mean.low else ""
    return f"{label(strategy)}<br><b>{metric.shown(mean.value):.1f}</b>{interval}"


def _join_seeds(figure: go.Figure, seeds: pd.DataFrame, at: dict[str, int], metric: Metric) -> None:
    """Join the runs of each seed by one trace, interrupted between seeds, strategies in the order of the axis.

    The trace passes over a strategy that lacks the seed.
    """
    x: list[float | None] = []
    y: list[float | None] = []
    for _, own in seeds.groupby("seed", sort=False):
        if len(own) > 1:
            x += [*metric.shown(own.value), None]
            y += [*own.height, None]
    if x:
        line = {"color": "rgba(128,128,128,.35)", "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, showlegend=False, hoverinfo="skip", **at)
