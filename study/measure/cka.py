"""A measurement of how much of the pretrained features is left: centred kernel alignment by stage, with its comparisons.

CKA alone has no meaning. Its comparisons are a network of random weights against the pretrained one, and (from the kernels kept here) two
seeds of one strategy against each other.
"""

import math
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from study.datasets.spec import VAL
from study.measure.base import Finished, Measurement, NotMeasured
from study.measure.features import batches, chosen, pooled, remembered, stage_outputs
from study.metrics import unbiased_cka
from study.networks.pretrained import Backbone, create
from study.strategies.slots import Slot

FEWEST = 20  # images
KEPT = 96  # images whose kernel is kept, for comparing runs with each other


class Cka(Measurement):
    """Alignment with the start by stage, in [-1, 1] up to noise; that of a random network; whether the stage moved; a kernel int16."""

    name: ClassVar[str] = "cka"
    splits: ClassVar[tuple[str, ...]] = ("val",)
    of_tiles: ClassVar[bool] = False
    of_labels: ClassVar[bool] = True

    def rows(self, finished: Finished) -> pa.Table:
        images = chosen(finished.table, VAL)
        if len(images) < FEWEST:
            raise NotMeasured(f"{len(images)} validation images are too few for kernels; {FEWEST} are needed")
        pixels, start = finished.pixels[images], finished.start()
        of_start = remembered(_key(finished, start, images), lambda: _kernels(finished, start.model, start.slots, pixels))
        random = create(
            finished.config.cell.backbone, len(finished.table.classes), start="random", image_size=finished.config.protocol.image_size
        )
        of_random = remembered(_key(finished, random, images), lambda: _kernels(finished, random.model, random.slots, pixels))
        tuned = _kernels(finished, finished.network.model, start.slots, pixels)
        began, now = start.model.state_dict(), finished.network.model.state_dict()
        rows = []
        for stage in sorted(tuned):
            moved = any(not torch.equal(now[name].cpu(), began[name].cpu()) for name in start.names(stage))
            few = tuned[stage][:KEPT, :KEPT][np.triu_indices(min(KEPT, len(images)), 1)]
            rows.append(
                {
                    "stage": stage,
                    "trained": moved,
                    "images": len(images),
                    "cka": _or_none(unbiased_cka(tuned[stage], of_start[stage])),
                    "cka_random": _or_none(unbiased_cka(of_random[stage], of_start[stage])),
                    "kernel": np.round(few / max(float(np.abs(few).max()), 1e-12) * 32767).astype(np.int16).tolist(),
                }
            )
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def summary(self, rows: pa.Table) -> dict[str, float]:
        return {f"stage_{r['stage']}": r["cka"] for r in rows.select(["stage", "cka"]).to_pylist() if r["cka"] is not None}


SCHEMA = pa.schema(
    {
        "stage": pa.int64(),
        "trained": pa.bool_(),
        "images": pa.int64(),
        "cka": pa.float64(),
        "cka_random": pa.float64(),
        "kernel": pa.list_(pa.int16()),
    }
)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _key(finished: Finished, network: Backbone, images: np.ndarray) -> tuple[object, ...]:
    table, protocol = finished.table, finished.config.protocol
    return "kernels", network.name, network.fingerprint, table.fingerprint, images.tobytes(), protocol.image_size, protocol.precision


@torch.no_grad()
def _kernels(finished: Finished, model: nn.Module, slots: tuple[Slot, ...], pixels: np.ndarray) -> dict[int, np.ndarray]:
    """Return float64 [N, N] by stage: linear kernels of the pooled features, centred over the images for the sake of rounding alone."""
    model = finished.network.where.place(model).eval()
    parts: dict[int, list[torch.Tensor]] = {}
    with stage_outputs(model, slots) as out:
        for batch in batches(finished, pixels):
            out.clear()
            with finished.network.where.autocast():
                model(batch)
            for stage, activations in out.items():
                parts.setdefault(stage, []).append(pooled(activations))
    kernels = {}
    for stage, rows in parts.items():
        features = torch.cat(rows)
        features = features - features.mean(dim=0)
        kernels[stage] = (features @ features.T).double().cpu().numpy()
    return kernels
