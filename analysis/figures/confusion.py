"""Confusion on test, summed over runs: the two best strategies, rows normalised, and where they differ beyond chance."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.data.frames import Frames
from analysis.page.by_class import Cell, Classes, Difference, by_question, differences, said_runs
from analysis.page.theme import GREY, empty, label, styled
from analysis.verdict import Findings

TITLE = "Which classes are confused?"
NOTE = (
    "Rows are the true classes, columns the network's answers, in per cent of the true class. Left: the two strategies with "
    "the highest means. Right: their difference in percentage points. Blue: the first strategy gives this answer more "
    "often. Red: the second does. Grey: the 95 % interval contains zero. Intervals are not adjusted for their number, so "
    "about one of twenty is coloured by chance."
)
MOST_CLASSES = 30


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per strategy and cell. The best strategy's rows also hold its difference from the second, named in `minus`."""
    rows = []
    for own in by_question(frames, findings):
        if own.gathered.several:  # a label is taken for no other: the table of labels stands for it
            continue
        apart = _apart(own)
        for strategy in own.ranked:
            total = own.confusion(strategy)
            share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
            for (i, j), count in np.ndenumerate(total):
                d = apart.get((i, j)) if strategy == own.ranked[0] else None
                rows.append(
                    {
                        "question": own.question,
                        "strategy": strategy,
                        "truth": own.names[i],
                        "said": own.names[j],
                        "truth_index": i,
                        "said_index": j,
                        "count": int(count),
                        "share": share[i, j],
                        "minus": own.ranked[1] if d else "",
                        "difference": d.mean if d else np.nan,
                        "low": d.low if d else np.nan,
                        "high": d.high if d else np.nan,
                    }
                )
    return pd.DataFrame(rows)


def _apart(own: Classes) -> dict[Cell, Difference]:
    """Return the best strategy minus the second, in every cell in which either has an image."""
    if len(own.ranked) < 2:
        return {}
    first, second = own.ranked[:2]
    cells = [(int(i), int(j)) for i, j in np.argwhere(own.confusion(first) + own.confusion(second) > 0)]
    return differences(said_runs(own, first, cells), said_runs(own, second, cells))


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on test images that have one label each.")
    questions = [q for q in dict.fromkeys(frame.question) if frame[frame.question == q].strategy.nunique() >= 1]
    titles, blocks = [], []
    for question in questions:
        own = frame[frame.question == question]
        pair = list(dict.fromkeys(own.strategy))[:2]
        blocks.append((question, own, pair))
        titles += [
            "<br>".join(label(line) for line in question.lines) + f"<br><b>{label(pair[0])}</b>",
            f"<b>{label(pair[1])}</b>" if len(pair) > 1 else "",
            f"<b>{label(pair[0])} minus {label(pair[1])}</b>" if len(pair) > 1 else "",
        ]
    figure = make_subplots(
        rows=len(questions), cols=3, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.34 / max(len(questions), 1)
    )
    for row, (_question, own, pair) in enumerate(blocks, 1):
        size = int(own.truth_index.max()) + 1
        names = [label(n) for n in own[own.said_index == 0].drop_duplicates("truth_index").sort_values("truth_index").truth]
        ticks = names if len(set(names)) == len(names) and size <= MOST_CLASSES else [f"{k}" for k in range(size)]
        for column, strategy in enumerate(pair, 1):
            mine = own[own.strategy == strategy].sort_values(["truth_index", "said_index"])
            share, count = mine.share.to_numpy().reshape(size, size), mine["count"].to_numpy().reshape(size, size)
            figure.add_heatmap(
                z=100 * share,
                x=ticks,
                y=ticks,
                customdata=count,
                zmin=0,
                zmax=100,
                colorscale="Blues",
                showscale=False,
                hovertemplate="%{y} named %{x}: %{z:.0f} % (%{customdata:d} images)<extra></extra>",
                text=np.round(100 * share).astype(int) if size <= 12 else None,
                texttemplate="%{text}" if size <= 12 else None,
                row=row,
                col=column,
            )
        if len(pair) == 2:
            _draw_change(figure, own[own.strategy == pair[0]].sort_values(["truth_index", "said_index"]), ticks, row)
        for column in (1, 2, 3):
            figure.update_yaxes(type="category", dtick=1, autorange="reversed", showticklabels=column == 1, row=row, col=column)
            figure.update_xaxes(type="category", dtick=1, row=row, col=column)
    figure.update_xaxes(tickangle=-45)
    return styled(figure, height=130 + 420 * len(questions))


def _draw_change(figure: go.Figure, own: pd.DataFrame, ticks: list[str], row: int) -> None:
    """Draw the differences, both directions on one scale, and those that may be chance in grey.

    `own` holds the first strategy's rows in the order of the matrix.
    """
    size = len(ticks)
    change, low, high = (100 * own[c].to_numpy().reshape(size, size) for c in ("difference", "low", "high"))
    seen = (low > 0) | (high < 0)
    most = max(float(np.nanmax(np.abs(change))), 1.0)
    first, second = label(own.strategy.iloc[0]), label(own.minus[own.minus != ""].iloc[0])
    said = [["" if np.isnan(v) else f"{v:+.0f}" for v in line] for line in change]
    shown = {
        "x": ticks, "y": ticks, "customdata": np.stack([change, low, high], axis=-1), "showscale": False, "row": row, "col": 3,
        "text": said, "texttemplate": "%{text}" if size <= 12 else None,
        "hovertemplate": f"%{{y}} named %{{x}}: {first} minus {second} %{{customdata[0]:+.1f}} points "
        "[%{customdata[1]:+.1f}, %{customdata[2]:+.1f}]<extra></extra>",
    }  # fmt: skip
    own_text = {"text": [[t if s else "" for t, s in zip(*lines, strict=True)] for lines in zip(said, seen, strict=True)]}
    faint = "rgba(128,128,128,.12)"
    figure.add_heatmap(
        z=np.where(seen | np.isnan(change), np.nan, 0.0), colorscale=[[0, faint], [1, faint]], textfont={"color": GREY}, **shown
    )
    figure.add_heatmap(z=np.where(seen, change, np.nan), zmin=-most, zmax=most, colorscale="RdBu", **{**shown, **own_text})
