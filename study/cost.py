"""What a study will cost, measured: a few steps of every (backbone, strategy) on this machine's device.

Memory is always channels-last: on every network tried it was the faster layout in the faster precision (docs/performance.md).
Precision is another matter: bfloat16 is half as slow again on one network and half as fast again on the next.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from study import backbones
from study.config import Cell, Protocol, Study
from study.strategies import STRATEGIES
from study.training.loop import Device
from study.training.split import split

STEPS = 3
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Price:
    """Seconds an image, on one trial's share of this machine."""

    train: float  # one optimiser pass, frozen half included
    evaluate: float
    parameters: int  # of the whole network
    trained: int


def measure(cell: Cell, protocol: Protocol, num_classes: int, weights: str | None) -> Price:
    """Times `STEPS` optimiser steps on random pixels after one to warm up."""
    where = Device.best(protocol.precision)
    backbone = backbones.create(cell.backbone, num_classes, weights=weights)
    phases = STRATEGIES[cell.strategy]().phases(backbone.num_stages, max(protocol.max_epochs, 2))
    model = split(backbone, phases[-1].cut).to(where.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.set_training(phases[-1].lrs, protocol.batch_norm)
    size = min(protocol.batch_size, 32)
    images = torch.randn(size, 3, protocol.image_size, protocol.image_size, device=where.device).contiguous(
        memory_format=torch.channels_last
    )

    def step() -> None:
        with where.autocast():
            loss = model(images).float().logsumexp(1).mean()
        loss.backward()
        if where.device.type == "cuda":
            torch.cuda.synchronize()

    train = _timed(step) / size
    model.eval()

    @torch.no_grad()
    def look() -> None:
        with where.autocast():
            model(images)
        if where.device.type == "cuda":
            torch.cuda.synchronize()

    return Price(
        train=train,
        evaluate=_timed(look) / size,
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for _, p in model.named() if p.requires_grad),
    )


PROBE_SECONDS = 1.0
PROBE_BATCH = 8


def fastest_precision(
    backbone_names: Sequence[str], image_size: int, weights: str | None, threads: int | None = None
) -> tuple[Precision, dict[str, dict[str, float]]]:
    """The precision that trains an image of every backbone in the least time; and images a second, {backbone: {precision: rate}}.

    Measured on this machine with the `threads` a trial has (None: as many as torch takes). Where a cluster's workers are other
    machines than this one, a study names its precision.
    """
    rates: dict[str, dict[str, float]] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    for name in backbone_names:
        for precision in ("fp32", "bf16"):
            where = Device.best(precision)
            model = backbones.create(name, 2, weights=weights).model.to(where.device, memory_format=torch.channels_last).train()
            images = torch.randn(PROBE_BATCH, 3, image_size, image_size, device=where.device).contiguous(memory_format=torch.channels_last)

            def step() -> None:
                with where.autocast():  # noqa: B023 (called before the next round)
                    loss = model(images).float().logsumexp(1).mean()  # noqa: B023
                loss.backward()
                float(loss.detach())

            step()
            steps, began = 0, time.perf_counter()
            while steps < 2 or time.perf_counter() - began < PROBE_SECONDS / 2:
                step()
                steps += 1
            rates.setdefault(name, {})[precision] = round(steps * PROBE_BATCH / (time.perf_counter() - began), 1)
    torch.set_num_threads(before)
    cost = {p: sum(1 / r[p] for r in rates.values()) for p in ("fp32", "bf16")}
    return ("bf16" if cost["bf16"] < cost["fp32"] else "fp32"), rates


def disk(study: Study, parameters: dict[str, int], left: dict[str, int]) -> float:
    """Bytes the study may still write: the best weights of every unfinished run, and two checkpoints (weights, Adam's two
    moments) of those in flight. `parameters` by backbone; `left`: runs to do by cell id."""
    weights = sum(4 * parameters[c.backbone] * left[c.id] for c in study.cells)
    return weights + 2 * 12 * max(parameters.values()) * min(1, sum(left.values()))


def _timed(step: object) -> float:
    step()  # type: ignore[operator]
    began = time.perf_counter()
    for _ in range(STEPS):
        step()  # type: ignore[operator]
    return (time.perf_counter() - began) / STEPS
