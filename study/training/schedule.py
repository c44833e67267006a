"""The learning rate: linear warm-up, then cosine to zero, over each phase."""

import math

import torch

from study.strategies import Phase


def factor(done: float, warmup: float, epochs: int, steps: int) -> float:
    """What the rates are multiplied by after `done` epochs (fractions included) of `epochs`, with `steps` an epoch; in (0, 1]."""
    warmup = min(warmup, epochs / 2)
    if done < warmup:
        return (done + 1 / steps) / (warmup + 1 / steps)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (epochs - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, phase: Phase, done: float, warmup: float, steps: int) -> None:
    scale = factor(done, warmup, phase.epochs, steps)
    for group in optimizer.param_groups:
        group["lr"] = group.get("lr_factor", 1.0) * (phase.lrs[group["stage"]] or 0.0) * scale
