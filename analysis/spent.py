"""What a study cost: trials, epochs, hours of a core or a GPU; energy and money, which are estimates."""

from typing import Any

from analysis.frames import Frames

CORE_WATTS, GPU_WATTS = 10.0, 350.0
"""Assumed under load, with what belongs to it (memory, fans, power supply): a server core, a training GPU. Nothing here measures power."""


def spent(frames: Frames, price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """One row a cell and stage, and a last one for the whole study where there are several.

    `hours`: of a core, or of a GPU where the trials had one, each worker counting as one. `price_per_hour` in whatever money, of one such
    hour: `price` is None without it.
    """
    t = frames.trials
    if not len(t):
        return []
    t = t.assign(gpu=t["device"].astype(str).str.startswith("cuda"), hours=t["seconds"] * frames.study.protocol.workers / 3600)
    t["kwh"] = t["hours"] * [(GPU_WATTS if g else CORE_WATTS) / 1000 for g in t["gpu"]]
    grouped = t.groupby(["cell", "stage"], sort=False)
    table = grouped.agg(
        trials=("trial_id", "size"),
        epochs=("epochs", "sum"),
        images=("images", "sum"),
        hours=("hours", "sum"),
        gpu=("gpu", "any"),
        kwh=("kwh", "sum"),
        parameters=("trained_parameters", "median"),
    ).reset_index()
    rows = table.to_dict("records")
    if len(rows) > 1:
        sums = {k: table[k].sum() for k in ("trials", "epochs", "images", "hours", "kwh")}
        rows.append({"cell": "the whole study", "stage": "", "gpu": bool(table.gpu.any()), "parameters": None, **sums})
    return [{**row, "price": None if price_per_hour is None else row["hours"] * price_per_hour} for row in rows]
