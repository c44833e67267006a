"""Score against the number of training images, the length of training or the size of images, with the crossings marked."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.axes import IMAGES, Axis
from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.figures.in_metric import marked, metric_in
from analysis.findings.short import shorts
from analysis.page.theme import band, colour, dash, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.scoring.metric import Metric

NEIGHBOURS = 1.5  # times as much: numbers of stars that are closer would cover one another


def title(axis: Axis) -> str:
    return f"Score against {axis.title}"


def note(axis: Axis) -> str:
    open_star = "that is not shown" if axis.training else "that is not shown, or one of both was cut short"
    took = " Point at a mark to see how long a run took." if axis.training else ""
    return (
        f"Test {{metric}} of each strategy, tuned anew at every place. Bands are 95 % intervals.{took} Stars mark where two means cross. "
        f"A full star has its interval: each strategy is shown to be better on one side. A star is open where {open_star}."
    )


def compute(frames: Frames, findings: Findings, axis: Axis = IMAGES) -> pd.DataFrame:
    """Return rows of kind "mean" (place, value, low, high) and "crossing" (place with low and high, of `strategy` and `other`)."""
    w = findings.when
    own = w.sizes[w.sizes.axis == axis.name] if len(w.sizes) else w.sizes
    if not len(own):
        return pd.DataFrame()
    asked = [Question.of(r) for r in own.to_dict("records")]
    means = own.assign(question=[axis.without(q) for q in asked], kind="mean", other="", shown=True)
    means["tick"] = [axis.tick(q, place) for q, place in zip(asked, own.place, strict=True)]
    means = means.rename(columns={"mean": "value"})
    rows, short = [], {} if axis.training else shorts(frames)
    for panel in (p for p in w.panels if p.axis == axis):
        curves = means[means.question == panel.question]
        for (a, b), c in panel.crossings.items():
            if c.at == c.at:
                value = at_size(curves[curves.strategy == a], c.at)
                cut = any((q, s) in short for q in panel.sizes.values() for s in (a, b))
                star = {"question": panel.question, "kind": "crossing", "strategy": a, "other": b, "place": c.at, "tick": ""}
                rows.append({**star, "value": value, "low": c.low, "high": c.high, "shown": c.kind == "crosses" and not cut})
    columns = ["question", "kind", "strategy", "other", "place", "value", "low", "high", "seconds", "tick", "shown"]
    for row in rows:
        row["seconds"] = None
    whole = pd.concat([means[columns], *([pd.DataFrame(rows)[columns]] if rows else [])], ignore_index=True)
    return marked(whole, frames.scored_by)


def at_size(curve: pd.DataFrame, place: float) -> float:
    """Return the mean at a place, linear in log n between measured places."""
    return float(np.interp(np.log(place), np.log(curve.place.to_numpy(float)), curve.value.to_numpy(float)))


def draw(frame: pd.DataFrame, axis: Axis = IMAGES) -> go.Figure:
    if not len(frame):
        return empty(axis.one_place)
    metric = metric_in(frame)
    figure, places = facets(frame.question, height=440)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        for strategy, own in block[block.kind == "mean"].groupby("strategy", sort=False):
            _curve(figure, str(strategy), own, at, axis, metric)
        stars = block[block.kind == "crossing"]
        for r, side in zip(stars.itertuples(), sides(stars.place), strict=True):
            _star(figure, r, side, at, axis, metric)
        size_axis(figure, block[block.kind == "mean"], at, axis)
    figure.update_yaxes(title_text=f"test {metric.words}, {metric.unit}", col=1)
    return styled(figure)


def sides(places: Iterable[float]) -> list[str]:
    """Return the position of each star's number, so that neighbours do not cover one another: above, below or beside it."""
    sizes = np.asarray(list(places), dtype=float)
    found = ["top center"] * len(sizes)
    turn = 0
    order = np.argsort(sizes)
    for before, now in zip(order[:-1], order[1:], strict=True):
        turn = turn + 1 if sizes[now] < NEIGHBOURS * sizes[before] else 0
        found[now] = ("top center", "bottom center", "middle right")[turn % 3]
    return found


def size_axis(figure: go.Figure, measured: pd.DataFrame, at: dict[str, int], axis: Axis) -> None:
    """Make the axis logarithmic, with a tick at every place that was measured."""
    ticks = dict(sorted(zip(measured.place, measured.tick, strict=True)))
    figure.update_xaxes(title_text=axis.label, type="log", tickmode="array", tickvals=list(ticks), ticktext=list(ticks.values()), **at)


def _curve(figure: go.Figure, strategy: str, own: pd.DataFrame, at: dict[str, int], axis: Axis, metric: Metric) -> None:
    if own.low.notna().all():
        band(figure, strategy, own.place, own.low, own.high, at, metric)
    took = [f" ({s:.2g} s a run)" if s == s and s is not None else "" for s in own.seconds]
    figure.add_scatter(
        x=own.place,
        y=metric.shown(own.value),
        mode="lines+markers",
        line={"color": colour(strategy), "dash": dash(strategy), "width": 2.5},
        marker={"symbol": symbol(strategy), "size": 9},
        customdata=[[*metric.interval(low, high), text] for low, high, text in zip(own.low, own.high, took, strict=True)],
        hovertemplate="%{x:,.0f} "
        + axis.unit
        + "%{customdata[2]}: %{y:.1f} [%{customdata[0]:.1f}, %{customdata[1]:.1f}]<extra>"
        + label(strategy)
        + "</extra>",
        **named(strategy),
        **at,
    )


def _star(figure: go.Figure, crossing: "pd.Series[object]", side: str, at: dict[str, int], axis: Axis, metric: Metric) -> None:
    """Draw the crossing of two strategies, half in the colour of each."""
    c = crossing
    shown = f"{label(c.strategy)} and {label(c.other)} cross near {axis.shown(c.place)}"
    bar = {"type": "data", "symmetric": False, "array": [c.high - c.place], "arrayminus": [c.place - c.low], "thickness": 1.5}
    figure.add_scatter(
        x=[c.place],
        y=[metric.shown(float(c.value))],
        mode="markers+text",
        text=[axis.rounded(c.place)],
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
