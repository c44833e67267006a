"""The lead of the strategy with the highest mean at the largest place over each other one, along one axis."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.axes import IMAGES, Axis
from analysis.data.frames import Frames
from analysis.figures.in_metric import marked, metric_in
from analysis.figures.sizes import sides, size_axis
from analysis.page.theme import colour, dash, empty, facets, label, named, styled, symbol
from analysis.statistics.intervals import difference_interval, mean_estimate
from analysis.verdict import Findings

NOTE = (
    "The strategy with the highest mean at the largest place, minus each other strategy, paired over runs and test images. Bars are 95 % "
    "intervals. Above zero it is better. A star on the zero line shows where that changes. A full star has its interval: each strategy is "
    "shown to be better on one side."
)


def title(axis: Axis) -> str:
    return f"Difference against {axis.title}"


def note(axis: Axis) -> str:
    del axis
    return NOTE


def compute(frames: Frames, findings: Findings, axis: Axis = IMAGES) -> pd.DataFrame:
    """Return one row per place and other strategy: leader minus other, in shares.

    `at`, `at_low`, `at_high` describe their crossing, and `shown` is True where it is shown. They are the same in every row of a pair.
    """
    rows = []
    for panel in (p for p in findings.when.panels if p.axis == axis):
        top = {s: mean_estimate(p.runs).mean for s, points in panel.curves.items() for p in points if p.place == panel.largest}
        if not top:
            continue
        leader = max(top, key=lambda s: top[s])
        for other in (s for s in panel.curves if s != leader):
            c = panel.between(leader, other)
            assert c is not None, "every two curves are compared"
            for d in panel.difference(leader, other):
                e = mean_estimate(d.runs)
                low, high = difference_interval(e)
                own = {"question": panel.question, "leader": leader, "strategy": other, "place": d.place}
                rows.append(
                    {
                        **own,
                        "tick": axis.tick(panel.sizes[d.place], d.place),
                        "difference": e.mean,
                        "low": low,
                        "high": high,
                        "at": c.at,
                        "at_low": c.low,
                        "at_high": c.high,
                        "shown": c.kind == "crosses",
                    }
                )
    return marked(pd.DataFrame(rows), frames.scored_by)


def draw(frame: pd.DataFrame, axis: Axis = IMAGES) -> go.Figure:
    if not len(frame):
        return empty(axis.one_place)
    metric = metric_in(frame)
    figure, places = facets(frame.question, height=420)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        figure.update_yaxes(
            title_text=(
                f"{label(block.leader.iloc[0])} {'minus each other' if metric.higher else 'instead of each other saves'}, {metric.short}"
            ),
            **at,
        )
        figure.add_hline(y=0, line_width=1.5, line_color="rgba(128,128,128,.9)", **at)
        others = [(str(strategy), own) for strategy, own in block.groupby("strategy", sort=False)]
        beside = sides(own["at"].iloc[0] for _, own in others)
        for turn, (strategy, own) in enumerate(others):
            _line(figure, strategy, own, turn, beside[turn], at, axis)
        size_axis(figure, block, at, axis)
    return styled(figure)


def _line(figure: go.Figure, strategy: str, own: pd.DataFrame, turn: int, side: str, at: dict[str, int], axis: Axis) -> None:
    tint, aside = colour(strategy), (own.place.max() / own.place.min()) ** (0.008 * turn)  # bars beside one another
    bar = {"type": "data", "symmetric": False, "array": 100 * (own.high - own.difference), "arrayminus": 100 * (own.difference - own.low)}
    figure.add_scatter(
        x=own.place * aside,
        y=100 * own.difference,
        mode="lines+markers",
        line={"color": tint, "dash": dash(strategy), "width": 2.5},
        marker={"symbol": symbol(strategy), "size": 9},
        error_y=bar | {"color": tint, "thickness": 1.5} if own.low.notna().all() else None,
        customdata=pd.concat([own.place, 100 * own[["low", "high"]]], axis=1),
        hovertemplate="%{customdata[0]:,.0f} "
        + axis.unit
        + ": %{y:+.1f} [%{customdata[1]:+.1f}, %{customdata[2]:+.1f}]<extra>"
        + f"{label(own.leader.iloc[0])} minus {label(strategy)}</extra>",
        **named(strategy),
        **at,
    )
    c = own.iloc[0]
    if c["at"] != c["at"]:
        return
    span = {"type": "data", "symmetric": False, "array": [c.at_high - c["at"]], "arrayminus": [c["at"] - c.at_low]}
    figure.add_scatter(
        x=[c["at"]],
        y=[0],
        mode="markers+text",
        text=[axis.rounded(c["at"])],
        textposition=side,
        marker={"symbol": "star" if c.shown else "star-open", "size": 14, "color": tint},
        error_x=span | {"color": tint, "thickness": 3} if c.shown else None,
        hovertemplate=f"crosses {label(strategy)} near {axis.shown(c['at'])}: {c.at_low:,.0f} to {c.at_high:,.0f}<extra></extra>",
        showlegend=False,
        legendgroup=strategy,
        **at,
    )
