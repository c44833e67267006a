"""The cost of a study: trials, epochs, hours of a core or a GPU, with energy and money as estimates."""

from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from study.records import on_gpu

CORE_WATTS, GPU_WATTS = 10.0, 350.0
"""Assumed power under load of a server core and of a training GPU, with their memory, fans and power supply. It is not measured."""


def spent(frames: Frames, price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """Return one row per cell and stage, and a last one for the whole study where there are several.

    `hours` are processor hours as measured, or GPU hours where the trials had one, counting each worker. `clock` are the hours that
    trials took one after the other. `price_per_hour` is the price of one such hour in any currency. Without it `price` is None.
    """
    t = frames.trials
    if not len(t):
        return []
    t = t.assign(gpu=t["device"].map(on_gpu), clock=t["seconds"] / 3600)
    t["hours"] = t["clock"] * frames.study.protocol.workers
    if "cpu_seconds" in t:
        t["hours"] = (t["cpu_seconds"] / 3600).where(~t["gpu"] & t["cpu_seconds"].notna(), t["hours"])
    t["kwh"] = t["hours"] * [(GPU_WATTS if g else CORE_WATTS) / 1000 for g in t["gpu"]]
    grouped = t.groupby(["cell", "stage"], sort=False)
    table = grouped.agg(
        trials=("trial_id", "size"),
        epochs=("epochs", "sum"),
        images=("images", "sum"),
        hours=("hours", "sum"),
        clock=("clock", "sum"),
        gpu=("gpu", "any"),
        kwh=("kwh", "sum"),
        parameters=("trained_parameters", "median"),
    ).reset_index()
    rows = table.to_dict("records")
    if len(rows) > 1:
        sums = {k: table[k].sum() for k in ("trials", "epochs", "images", "hours", "clock", "kwh")}
        rows.append({"cell": "the whole study", "stage": "", "gpu": bool(table.gpu.any()), "parameters": None, **sums})
    return [{**row, "price": None if price_per_hour is None else row["hours"] * price_per_hour} for row in rows]


def cost_seconds(trials: pd.DataFrame) -> pd.Series:
    """Return the seconds of trials that are to be compared, all on one scale.

    They are processor seconds, or wall-clock seconds where a trial had a GPU or did not record processor time.
    """
    known = "cpu_seconds" in trials and trials.cpu_seconds.notna().all() and not trials.device.map(on_gpu).any()
    return trials.cpu_seconds if known else trials.seconds
