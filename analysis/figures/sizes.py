"""Score against the number of training images, with the crossings marked."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.advice import number
from analysis.frames import Frames
from analysis.question import Question
from analysis.short import shorts
from analysis.theme import band, colour, dash, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from analysis.when import whole

TITLE = "Score against the number of training images"
NOTE = "Test macro-F1 of each strategy, tuned anew at every size; bands: 95 % intervals. Stars mark where two means cross: full, with the crossing's interval, where each strategy is shown to be better on one side; open where that is not shown, or one of both was cut short."
NEIGHBOURS = 1.5  # times as many images: numbers of stars that are closer would cover one another
ONE_SIZE = "the study has one size of the training set"


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Rows of kind "mean" (images, value, low, high) and "crossing" (of `strategy` and `other`: images, with low and high in images)."""
    w = findings.when
    if not len(w.sizes):
        return pd.DataFrame()
    means = w.sizes.assign(question=[whole(Question.of(r)) for r in w.sizes.to_dict("records")], kind="mean", other="", shown=True)
    means = means.rename(columns={"mean": "value"})
    rows, short = [], shorts(frames)
    for panel in w.panels:
        curves = means[means.question == panel.question]
        for (a, b), c in panel.crossings.items():
            if c.at == c.at:
                value = at_size(curves[curves.strategy == a], c.at)
                cut = any((q, s) in short for q in panel.sizes.values() for s in (a, b))
                own = {"question": panel.question, "kind": "crossing", "strategy": a, "other": b, "images": c.at}
                rows.append({**own, "value": value, "low": c.low, "high": c.high, "shown": c.kind == "crosses" and not cut})
    columns = ["question", "kind", "strategy", "other", "images", "value", "low", "high", "shown"]
    return pd.concat([means[columns], *([pd.DataFrame(rows)[columns]] if rows else [])], ignore_index=True)


def at_size(curve: pd.DataFrame, images: float) -> float:
    """The mean there, linear in log n."""
    return float(np.interp(np.log(images), np.log(curve.images.to_numpy(float)), curve.value.to_numpy(float)))


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(ONE_SIZE)
    figure, places = facets(frame.question, height=440)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        for strategy, own in block[block.kind == "mean"].groupby("strategy", sort=False):
            _curve(figure, str(strategy), own, at)
        stars = block[block.kind == "crossing"]
        for r, side in zip(stars.itertuples(), sides(stars.images), strict=True):
            _star(figure, r, side, at)
        size_axis(figure, block[block.kind == "mean"].images, at)
    figure.update_yaxes(title_text="test macro-F1, points", col=1)
    return styled(figure)


def sides(images: Iterable[float]) -> list[str]:
    """Where each star's number stands, so that those of neighbours do not cover one another: above, below, beside it."""
    sizes = np.asarray(list(images), dtype=float)
    found = ["top center"] * len(sizes)
    turn = 0
    order = np.argsort(sizes)
    for before, now in zip(order[:-1], order[1:], strict=True):
        turn = turn + 1 if sizes[now] < NEIGHBOURS * sizes[before] else 0
        found[now] = ("top center", "bottom center", "middle right")[turn % 3]
    return found


def size_axis(figure: go.Figure, images: pd.Series, at: dict[str, int]) -> None:
    """Logarithmic, with a tick at every size that was measured."""
    sizes = sorted(set(images))
    figure.update_xaxes(
        title_text="training images (log)", type="log", tickmode="array", tickvals=sizes, ticktext=[f"{n:,.0f}" for n in sizes], **at
    )


def _curve(figure: go.Figure, strategy: str, own: pd.DataFrame, at: dict[str, int]) -> None:
    if own.low.notna().all():
        band(figure, strategy, own.images, own.low, own.high, at)
    figure.add_scatter(
        x=own.images,
        y=100 * own.value,
        mode="lines+markers",
        line={"color": colour(strategy), "dash": dash(strategy), "width": 2.5},
        marker={"symbol": symbol(strategy), "size": 9},
        customdata=100 * own[["low", "high"]],
        hovertemplate="%{x:,.0f} images: %{y:.1f} [%{customdata[0]:.1f}, %{customdata[1]:.1f}]<extra>" + label(strategy) + "</extra>",
        **named(strategy),
        **at,
    )


def _star(figure: go.Figure, crossing: "pd.Series[object]", side: str, at: dict[str, int]) -> None:
    """The crossing of two strategies, half in the colour of each."""
    c = crossing
    shown = f"{label(c.strategy)} and {label(c.other)} cross near {number(c.images)} images"
    bar = {"type": "data", "symmetric": False, "array": [c.high - c.images], "arrayminus": [c.images - c.low], "thickness": 1.5}
    figure.add_scatter(
        x=[c.images],
        y=[100 * c.value],
        mode="markers+text",
        text=[number(c.images)],
        textposition=side,
        marker={
            "symbol": "star" if c.shown else "star-open",
            "size": 15,
            "color": colour(str(c.other)),
            "line": {"color": colour(str(c.strategy)), "width": 2},
        },
        error_x=bar | {"color": colour(str(c.other))} if c.shown else None,
        hovertemplate=f"{shown}<br>{c.low:,.0f} to {c.high:,.0f}<extra></extra>",
        name=shown,
        showlegend=False,
        **at,
    )
