"""The learning rate over each phase: a linear warm-up, then one of the schedules, by name."""

import math
from collections.abc import Callable

import torch

from study.strategies import Phase

Shape = Callable[[float, float], float]
"""A function from (epochs since the warm-up, epochs from there to the phase's end), both with fractions, to a factor in (0, 1]."""

DECAY = 0.1  # of what follows the warm-up: about a tenth suffices, Hu et al. found


def cosine(past: float, length: float) -> float:
    """Return half a cosine, from 1 to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * past / length))


def wsd(past: float, length: float) -> float:
    """Return warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395, section 4): constant, then linear to 0 over the last tenth.

    At least one epoch decays, or half of a phase shorter than two: a step or two would not bring the rate down.
    """
    return min((length - past) / max(DECAY * length, min(1.0, length / 2)), 1.0)


SCHEDULES: dict[str, Shape] = {"cosine": cosine, "wsd": wsd}


def factor(done: float, warmup: float, epochs: int, steps: int, schedule: str = "cosine") -> float:
    """Return the factor of the rates after `done` epochs (fractions included) of `epochs`, with `steps` an epoch; in (0, 1]."""
    warmup = min(warmup, epochs / 2)
    if done < warmup:
        return (done + 1 / steps) / (warmup + 1 / steps)
    return SCHEDULES[schedule](done - warmup, epochs - warmup)


def set_rates(optimizer: torch.optim.Optimizer, phase: Phase, done: float, warmup: float, steps: int, schedule: str = "cosine") -> None:
    """Set every group's rate for the step that begins after `done` epochs of the phase."""
    scale = factor(done, warmup, phase.epochs, steps, schedule)
    for group in optimizer.param_groups:
        group["lr"] = group.get("lr_factor", 1.0) * (phase.lrs[group["stage"]] or 0.0) * scale
