"""The distance of training from its start, by stage: the one measure of mechanism that needs no forward pass."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from study.networks.cutting.halves import Split


@torch.no_grad()
def distances(model: Split, start: Mapping[str, Tensor], whole: bool = False) -> dict[str, float]:
    """Return norm(w - start) / norm(start) of every stage in the trained half, as {"distance/head", "distance/stage_1", ...}.

    Only weights count, not batch-norm statistics. Stages below the cut stay at zero and are left out. `whole`: include them, since they
    moved in an earlier phase.
    """
    moved: dict[int, float] = {}
    began: dict[int, float] = {}
    for slot, parameter in model.named_whole() if whole else model.named():
        origin = start[slot.name].to(parameter.device)
        moved[slot.stage] = moved.get(slot.stage, 0.0) + float((parameter - origin).square().sum())
        began[slot.stage] = began.get(slot.stage, 0.0) + float(origin.square().sum())
    named = {k: f"distance/stage_{k}" if k else "distance/head" for k in sorted(moved)}
    return {name: math.sqrt(moved[k] / began[k]) for k, name in named.items() if began[k] > 0}
