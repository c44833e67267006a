"""The optimizer of a phase: the slots that move, their rates and decay, and the pull back to the start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from study.networks.cutting.halves import Split
from study.question.training_settings import Recipe
from study.strategies import Phase
from study.training.lora import Factors

Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    make: Callable[[Groups], torch.optim.Optimizer]
    lr_factor: float  # times the strategy's rate, so that one range serves every optimizer
    moments: int  # tensors it keeps for every parameter: what a checkpoint holds besides the weights


OPTIMIZERS: dict[str, Optimizer] = {
    # fused: one pass over memory, on a CPU a quarter of the time of the other kinds
    "adamw": Optimizer(make=lambda groups: torch.optim.AdamW(groups, fused=True), lr_factor=1.0, moments=2),
    # ranges are in AdamW's units; rates that serve SGD with momentum are about a hundred times as large (Kornblith et al. 2019, appendix)
    "sgd": Optimizer(make=lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True), lr_factor=100.0, moments=1),
}


def make_optimizer(model: Split, phase: Phase, recipe: Recipe, name: str, factors: Factors | None = None) -> torch.optim.Optimizer:
    """Return the optimizer, with one group a stage and kind of decay; `stage` and `lr_factor` in each, for the schedule, which sets lr.

    `factors`: of the weights that move by factors (None: those that the phase begins with). A step of theirs is one of the network.
    """
    chosen, factors = OPTIMIZERS[name], factors or Factors(model, phase)
    optimizer = chosen.make(
        [
            {**g, "lr": chosen.lr_factor * (phase.lrs[g["stage"]] or 0.0), "lr_factor": chosen.lr_factor}
            for g in group_slots(model, phase, recipe, factors)
        ]
    )
    if factors.by_name:
        optimizer.register_step_pre_hook(lambda *_: factors.take_gradients())
        optimizer.register_step_post_hook(lambda *_: factors.merge())
    return optimizer


def group_slots(model: Split, phase: Phase, recipe: Recipe, factors: Factors | None = None) -> Groups:
    """Return the parameters that move, or their factors, by stage, and freeze all others. Only weights are decayed, and none that are
    pulled back."""
    by_name = factors.by_name if factors else {}
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for slot, parameter in model.named():
        parameter.requires_grad_(phase.moves(slot))
        if phase.moves(slot):
            pulled = phase.pull > 0 and slot.stage > 0
            groups.setdefault((slot.stage, slot.kind == "weight" and not pulled), []).extend(
                (by_name[slot.name].up, by_name[slot.name].down) if slot.name in by_name else (parameter,)
            )
    return [
        {"params": params, "stage": stage, "weight_decay": recipe.weight_decay if decayed else 0.0}
        for (stage, decayed), params in sorted(groups.items())
    ]


def pull_back(model: Split, phase: Phase, start: Mapping[str, Tensor]) -> None:
    """Add the gradient of pull/2 * |w - start|^2 (L2-SP), below the head; once a step, before gradients are clipped."""
    if phase.pull > 0:
        for slot, parameter in model.named():
            if slot.stage > 0 and parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start[slot.name].to(parameter.device), alpha=phase.pull)
