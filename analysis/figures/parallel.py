"""Search trials, each drawn as a line through its hyperparameters."""

from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import broken, colour, dash, empty, label, named, styled
from analysis.verdict import Findings
from study.scoring.metric import Metric

TITLE = "All trials of the search"
NOTE = (
    "Each line is a trial, from its data set through its hyperparameters to its score. Learning rates are on log axes. "
    "Click a strategy in the legend to hide it."
)
MOST_LINES = 300  # a strategy; more would be a carpet


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per trial. `attrs["scales"]` holds the kind of axis of each hyperparameter."""
    own = frames.scored()
    if not len(own):
        return own
    columns = [c for name in frames.scales if (c := f"hp/{name}") in own]
    own = own.assign(dataset=[_shown(q) for q in own.question])
    wide = own[["trial_id", "dataset", "strategy", *columns, frames.scored_by.recorded]].reset_index(drop=True)
    wide.attrs["scales"] = frames.scales
    return marked(wide, frames.scored_by)


def _shown(question: Question) -> str:
    """Return the data set, with its budget and image size where the study has several."""
    first, _, *asked = replace(question, train_fraction=1.0).lines
    return ", ".join((first, *asked))


def draw(frame: pd.DataFrame) -> go.Figure:
    """Draw plain SVG lines over normalised axes. Plotly's own parallel coordinates need WebGL, which print and many browsers lack."""
    if not len(frame):
        return empty("No search trial has a score yet.")
    metric = metric_in(frame)
    axes = [_axis(frame, c, metric) for c in ("dataset", *[c for c in frame if str(c).startswith("hp/")], metric.recorded)]
    figure = go.Figure()
    rng = np.random.Generator(np.random.Philox(key=[9, 9]))
    for strategy in dict.fromkeys(frame.strategy):
        own = np.flatnonzero((frame.strategy == strategy).to_numpy())
        own = np.sort(rng.permutation(own)[:MOST_LINES])
        x: list[float | None] = []
        y: list[float | None] = []
        for trial in own:  # an axis the strategy does not have is passed over
            heights = [(k, float(values[trial])) for k, (_, values, _) in enumerate(axes) if np.isfinite(values[trial])]
            x += [*(k for k, _ in heights), None]
            y += [*(h for _, h in heights), None]
        line = {"color": colour(strategy), "dash": dash(strategy), "width": 1.6}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.65, hoverinfo="skip", connectgaps=False, **named(strategy))
    for k, (name, _, ticks) in enumerate(axes):
        figure.add_vline(x=k, line_width=1, line_color="rgba(128,128,128,.6)")
        figure.add_annotation(x=k, y=1.04, text=f"<b>{broken(name)}</b>", showarrow=False, yanchor="bottom")
        for at, text in ticks:
            figure.add_annotation(x=k, y=at, text=label(text), showarrow=False, xanchor="left", xshift=5, font={"size": 11})
    figure.update_xaxes(visible=False, range=[-0.15, len(axes) - 0.35])
    figure.update_yaxes(visible=False, range=[-0.06, 1.2])
    return styled(figure, height=430)


def _axis(frame: pd.DataFrame, column: str, metric: Metric) -> tuple[str, np.ndarray, list[tuple[float, str]]]:
    """Return (name, height in [0, 1] of every trial, NaN where the strategy has no such hyperparameter; ticks)."""
    name = column.removeprefix("hp/")
    scale = frame.attrs["scales"].get(name, "category" if column == "dataset" else "linear")
    if scale == "category":
        names = list(dict.fromkeys(frame[column].dropna()))
        at = {n: (k + 0.5) / len(names) for k, n in enumerate(names)}
        return name, frame[column].map(at).to_numpy(float), [(v, str(n)) for n, v in at.items()]
    values = frame[column].to_numpy(float)
    values = metric.shown(values) if column == metric.recorded else values
    logs = scale == "log"
    scaled = np.log10(np.clip(values, 1e-12, None)) if logs else values
    low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
    span = high - low or 1.0
    shown = [(f, low + f * span) for f in (0.0, 0.5, 1.0)] if high > low else [(0.0, low)]
    ticks = [(f, f"{10**v:.1e}" if logs else f"{v:.3g}") for f, v in shown]
    return f"val {metric.words}" if column == metric.recorded else name, (scaled - low) / span, ticks
