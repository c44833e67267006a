"""Every search trial as a line through its hyperparameters."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.load import Frames
from analysis.theme import OKABE_ITO, ORDER, empty, styled
from analysis.verdict import Findings
from study.records import OBJECTIVE

TITLE = "Search: parallel coordinates"
NOTE = "One line a trial; colour: strategy, in the order of the strategy axis. Drag along an axis to select. Rates on log axes."
AXES = ("lr", "weight_decay", "augmentation", "label_smoothing", "unfreeze_depth")


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t = frames.trials
    if not len(t) or OBJECTIVE not in t:
        return pd.DataFrame()
    own = t[(t.stage == "search") & t[OBJECTIVE].notna()]
    columns = [c for c in (f"hp/{a}" for a in AXES) if c in own]
    return own[["trial_id", "dataset", "strategy", *columns, OBJECTIVE]].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    strategies = [s for s in ORDER if s in set(frame.strategy)] + sorted(set(frame.strategy) - set(ORDER))
    code = frame.strategy.map({s: k for k, s in enumerate(strategies)}).to_numpy(float)
    datasets = list(dict.fromkeys(frame.dataset))
    dimensions = [
        {
            "label": "data",
            "values": frame.dataset.map({d: k for k, d in enumerate(datasets)}),
            "tickvals": list(range(len(datasets))),
            "ticktext": datasets,
        },
        {"label": "strategy", "values": code, "tickvals": list(range(len(strategies))), "ticktext": strategies},
    ]
    for column in [c for c in frame if c.startswith("hp/")]:
        values = frame[column].astype(float)
        name = column.removeprefix("hp/")
        if name in ("lr", "weight_decay"):
            logs = np.log10(values.clip(lower=1e-12))
            ticks = np.arange(np.floor(logs.min()), np.ceil(logs.max()) + 1)
            dimensions.append({"label": name, "values": logs, "tickvals": ticks, "ticktext": [f"1e{int(v)}" for v in ticks]})
        else:
            dimensions.append({"label": name, "values": values.fillna(0)})
    dimensions.append({"label": "val macro-F1", "values": 100 * frame[OBJECTIVE]})
    colours = [OKABE_ITO[k % len(OKABE_ITO)] for k in range(len(strategies))]
    scale = [[k / max(len(colours) - 1, 1), c] for k, c in enumerate(colours)] if len(colours) > 1 else [[0, colours[0]], [1, colours[0]]]
    figure = go.Figure(
        go.Parcoords(line={"color": code, "colorscale": scale, "cmin": 0, "cmax": max(len(colours) - 1, 1)}, dimensions=dimensions)
    )
    styled(figure, height=420)
    return figure.update_layout(margin={"l": 80, "r": 60, "t": 60, "b": 30})
