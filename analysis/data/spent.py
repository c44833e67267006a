"""What a study cost: trials, epochs, hours of a core or a GPU; energy and money, which are estimates."""

from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from study.records import on_gpu

CORE_WATTS, GPU_WATTS = 10.0, 350.0
"""Assumed under load, with what belongs to it (memory, fans, power supply): a server core, a training GPU. Nothing here measures power."""


def spent(frames: Frames, price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """One row a cell and stage, and a last one for the whole study where there are several.

    `hours`: of a processor, as it was measured, or of a GPU where the trials had one, each worker counting as one; `clock`: what trials took
    one after the other. `price_per_hour` in whatever money, of one such
    hour: `price` is None without it.
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
    """What trials cost that are to be compared: all in seconds of a processor, or, where one had a GPU or does not say, of the clock."""
    known = "cpu_seconds" in trials and trials.cpu_seconds.notna().all() and not trials.device.map(on_gpu).any()
    return trials.cpu_seconds if known else trials.seconds
