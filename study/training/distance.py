"""How far training has gone from where it began, by stage: the one number of mechanism that costs no forward pass."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from study.networks.cutting.halves import Split


@torch.no_grad()
def distances(model: Split, start: Mapping[str, Tensor], whole: bool = False) -> dict[str, float]:
    """norm(w - start) / norm(start) of every stage in the trained half, as {"distance/head", "distance/stage_1", ...}.

    Weights alone, batch-norm statistics apart. What lies below the cut stays at zero and is left out; `whole`: it moved in
    an earlier phase, and is not.
    """
    moved: dict[int, float] = {}
    began: dict[int, float] = {}
    for slot, parameter in model.named_whole() if whole else model.named():
        origin = start[slot.name].to(parameter.device)
        moved[slot.stage] = moved.get(slot.stage, 0.0) + float((parameter - origin).square().sum())
        began[slot.stage] = began.get(slot.stage, 0.0) + float(origin.square().sum())
    named = {k: f"distance/stage_{k}" if k else "distance/head" for k in sorted(moved)}
    return {name: math.sqrt(moved[k] / began[k]) for k, name in named.items() if began[k] > 0}
