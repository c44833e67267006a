"""The common look of all figures: a colour-blind-safe colour per strategy (Okabe and Ito), readable in print, light and dark."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.data.question import Question
from study.scoring.metric import DEFAULT, Metric
from study.strategies import LINES, STRATEGIES

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FIRST = ("partial", "full", "linear_probe", "layer_decay", "lp_ft")  # they keep the look they always had
GREY = "rgba(128,128,128,.45)"  # of what the data do not show
MOST_ACROSS = 3  # panels side by side
MARGIN = {"l": 70, "r": 20, "t": 64, "b": 60}  # pixels; the legend is in the one above


def _place(strategy: str) -> tuple[int, int]:
    """Return (place among the colours, number of times the colours ran out before), the same for a strategy in every study."""
    known = [*FIRST, *LINES, *(s for s in STRATEGIES if s not in FIRST)]
    turn, place = divmod(known.index(strategy) if strategy in known else len(known), len(OKABE_ITO))
    return place, turn


def colour(strategy: str) -> str:
    return OKABE_ITO[_place(strategy)[0]]


def symbol(strategy: str) -> str:
    """Return the shape of a strategy, which tells the same as its colour to those who print in grey.

    Where colours repeat, each comes with another shape.
    """
    return SYMBOLS[sum(_place(strategy)) % len(SYMBOLS)]


def dash(strategy: str) -> str:
    """Return the dash of a strategy, for lines without marks."""
    return DASHES[_place(strategy)[1] % len(DASHES)]


def faded(strategy: str, alpha: float = 0.18) -> str:
    c = colour(strategy).lstrip("#")
    return f"rgba({int(c[:2], 16)},{int(c[2:4], 16)},{int(c[4:], 16)},{alpha})"


def label(text: object) -> str:
    """Escape a name from the data, since Plotly reads its texts as HTML."""
    return html.escape(str(text))


def facets(
    questions: Iterable[Question], *, height: int, across: Sequence[str] = (), **spacing: float
) -> tuple[go.Figure, dict[Question, list[dict[str, int]]]]:
    """Return a figure with the panels of each question, and their places: `figure.add_scatter(..., **places[question][0])`.

    Every figure has its questions in one order. There is one panel per question, its name above, MOST_ACROSS side by side. With
    `across` there is a row per question with one panel for each of its names, scores on one scale. `height` is in pixels, for a figure
    with one row of panels.
    """
    asked = sorted(set(questions))
    each = len(across) or 1
    columns = len(across) or min(len(asked), MOST_ACROSS)
    rows = math.ceil(len(asked) * each / columns)
    plain, gap = height - MARGIN["t"] - MARGIN["b"], 60 if across else 115
    whole = rows * plain + (rows - 1) * gap
    if across:
        titles: dict[str, Any] = {"row_titles": [label(q.name) for q in asked], "shared_yaxes": True}
    else:
        titles = {"subplot_titles": ["<br>".join(label(t) for t in (q.panel, ", ".join(q.lines[2:])) if t) for q in asked]}
    figure = make_subplots(rows=rows, cols=columns, vertical_spacing=gap / whole if rows > 1 else 0, **titles, **spacing)
    figure.update_layout(height=height + whole - plain)
    panels = [{"row": k // columns + 1, "col": k % columns + 1} for k in range(len(asked) * each)]
    return figure, {q: panels[k * each : (k + 1) * each] for k, q in enumerate(asked)}


def named(strategy: str) -> dict[str, str]:
    """Return the legend settings of a trace: the legend names a strategy once, and a click there hides all of its traces."""
    return {"name": label(strategy), "legendgroup": strategy}


def _name_once(figure: go.Figure) -> None:
    seen: set[str] = set()
    for trace in figure.data:
        if trace.legendgroup and trace.showlegend is not False:
            trace.showlegend = trace.legendgroup not in seen
            seen.add(trace.legendgroup)


def broken(name: str) -> str:
    """Return a field's name as the title of a narrow axis, on several lines at its underscores."""
    return "_<br>".join(label(part) for part in name.split("_"))


def styled(figure: go.Figure, *, height: int | None = None) -> go.Figure:
    """Make the paper transparent and leave the colour of texts to the page, for light and dark.

    `height` is in pixels, for a figure that has none yet.
    """
    _name_once(figure)
    figure.update_layout(
        height=height or figure.layout.height,
        margin=MARGIN,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
        hoverlabel={"namelength": -1},
        template="none",
    )
    figure.update_xaxes(
        gridcolor="rgba(128,128,128,.22)", zerolinecolor="rgba(128,128,128,.5)", automargin=True, linecolor="rgba(128,128,128,.5)"
    )
    figure.update_yaxes(
        gridcolor="rgba(128,128,128,.22)", zerolinecolor="rgba(128,128,128,.5)", automargin=True, linecolor="rgba(128,128,128,.5)"
    )
    return figure


def band(
    figure: go.Figure,
    strategy: str,
    x: "pd.Series[Any]",
    low: "pd.Series[Any]",
    high: "pd.Series[Any]",
    at: dict[str, int],
    metric: Metric = DEFAULT,
) -> None:
    """Draw an interval along a curve in the strategy's faded colour. `low` and `high` are scores, drawn as people read them."""
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*metric.shown(high), *metric.shown(low[::-1])],
        fill="toself",
        mode="lines",
        fillcolor=faded(strategy),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=strategy,
        **at,
    )


def strips(
    figure: go.Figure,
    rows: pd.DataFrame,
    *,
    line: str,
    value: str,
    lines: Sequence[str],
    order: Sequence[str],
    shown: str,
    at: dict[str, int],
) -> None:
    """Draw a line of marks for each of `lines` (values of column `line`), strategies in `order`: every run small, their mean large.

    `value` is a column of shares, and `shown` its format in a hover, in points.
    """
    for k, strategy in enumerate(order):
        own = rows[rows.strategy == strategy]
        own = own.assign(height=[lines.index(name) + 0.7 * ((k + 0.5) / len(order) - 0.5) for name in own[line]])
        mean = own.groupby(line, sort=False)[[value, "height"]].mean()
        for part, size, more in ((own, 6, {"showlegend": False, "legendgroup": strategy, "opacity": 0.5}), (mean, 13, named(strategy))):
            word = "mean " if part is mean else ""
            figure.add_scatter(
                x=100 * part[value],
                y=part.height,
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": size},
                hovertemplate=f"{word}{shown}<extra>{label(strategy)}</extra>",
                **more,
                **at,
            )


def not_measured(name: str) -> str:
    """Return why a figure of measurement `name` is not drawn."""
    return f"not measured: python -m study.measure RESULTS/STUDY {name}"


def empty(reason: str) -> go.Figure:
    """Return a figure that shows the reason why it is empty."""
    figure = styled(go.Figure(), height=160)
    figure.add_annotation(text=label(reason), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 15})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
