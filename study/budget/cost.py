"""The measured cost of a study: a few steps of every (backbone, strategy) on this machine's device.

The memory layout is always channels-last (docs/performance.md). Precision depends on the network: bfloat16 takes 1.5 times as long on one
and is 1.5 times as fast on the next.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.datasets.spec import VAL, ImageTable, kept_by_class
from study.inference.device import Device
from study.networks.cutting.cut import split
from study.networks.fits import phases_on
from study.networks.pretrained import create
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.strategies import EVERY, Strategy
from study.training.activations import as_stored, to_device
from study.training.optimizers import OPTIMIZERS, make_optimizer

STEPS = 2
BATCH = 32
PROBE_SECONDS = 1.0
PROBE_BATCH = 8
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Price:
    """Seconds for each image, on one trial's share of this machine."""

    frozen: float  # forward through the frozen half, computed once a view where views are stored; 0 where nothing is frozen
    train: float  # one optimiser pass through the trained half, from stored activations where there is a frozen one
    evaluate: float  # forward through the trained half
    parameters: int  # of the whole network
    trained: int
    cut: str  # "cut 1", or "whole" and, where it could not be cut, why


def measure(cell: Cell, protocol: Protocol, num_classes: int, weights: str | None, strategy: Strategy | None = None) -> Price:
    """Time `STEPS` passes of random pixels through each half of the cell's deepest phase, after one to warm up.

    `strategy`: with other settings than the published default's.
    """
    where = Device.best(protocol.precision)
    strategy = strategy or EVERY[cell.strategy]()
    backbone = create(cell.backbone, num_classes, weights=weights, start=strategy.start, image_size=protocol.image_size)
    phases = phases_on(strategy, backbone, max(protocol.max_epochs, 2), cell.id)
    phase = max(phases, key=lambda p: p.cut)  # the dearest
    model = where.place(split(backbone, phase.cut))
    optimizer = make_optimizer(model, phase, Recipe(), protocol.optimizer)
    model.set_training(phase, protocol.batch_norm)
    size = min(protocol.batch_size, BATCH)
    images = _random_images(size, protocol.image_size, where)
    with where.autocast():
        seen = model.activations(images).float()
    stored = as_stored(seen, "<f2") if model.frozen is not None else None

    def halfway() -> Tensor:
        return seen if stored is None else to_device(stored, where.device)

    def freeze() -> None:
        with where.autocast():
            model.activations(images)

    @torch.no_grad()
    def look() -> None:
        with where.autocast():
            model.trained(halfway())

    train = _seconds(_train_step(model.trained, halfway, where, optimizer), where) / size
    model.eval()
    return Price(
        frozen=_seconds(freeze, where) / size if model.frozen is not None else 0.0,
        train=train,
        evaluate=_seconds(look, where) / size,
        parameters=sum(p.numel() for p in model.parameters()),
        trained=max(p.size(backbone.slots) for p in phases),
        cut=f"cut {model.cut}" if model.frozen is not None else f"whole: {model.why_whole}" if model.why_whole else "whole",
    )


class Pricing:
    """The cost of a cell's runs, measured once for each network, strategy and size of images."""

    def __init__(self, protocol_of: Callable[[Cell], Protocol], tables: dict[tuple[str, str], ImageTable], weights: str | None) -> None:
        """Set up the measurement. `protocol_of`: of a cell, as `Study.protocol_of` gives that of its search."""
        self.protocol_of, self.tables, self.weights = protocol_of, tables, weights
        self.prices: dict[tuple[str, str, int], Price] = {}

    def price(self, cell: Cell) -> Price:
        protocol = self.protocol_of(cell)
        key = (cell.backbone, cell.strategy, protocol.image_size)
        if key not in self.prices:
            self.prices[key] = measure(cell, protocol, len(self._data(cell).classes), self.weights)
        return self.prices[key]

    def hours(self, cell: Cell) -> float:
        """Return the hours of one run that is not stopped. Every stored view passes the frozen half once, independent of the epochs."""
        p, data, price = self.protocol_of(cell), self._data(cell), self.price(cell)
        train = sum(kept_by_class(data, cell.train_fraction))
        looked = int((data.split == VAL).sum()) + min(train, p.train_eval_images)
        passes = p.max_epochs * p.passes(train)
        views = min(passes, p.views) if p.views else passes
        return ((views * train + looked) * price.frozen + passes * train * price.train + p.max_epochs * looked * price.evaluate) / 3600

    def _data(self, cell: Cell) -> ImageTable:
        return self.tables[cell.dataset, cell.split_protocol]


def fastest_precision(
    backbone_names: Sequence[str], image_size: int, weights: str | None, threads: int | None = None
) -> tuple[Precision, dict[str, dict[str, float]]]:
    """Return the precision that trains every backbone in the least time, and images a second, {backbone: {precision: rate}}.

    They are measured on this machine with the `threads` a trial has (None: as many as torch takes). Where a cluster's workers are other
    machines than this one, a study names its precision.
    """
    rates: dict[str, dict[str, float]] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    for name in backbone_names:
        for precision in ("fp32", "bf16"):
            where = Device.best(precision)
            model = where.place(create(name, 2, weights=weights, image_size=image_size).model).train()
            images = _random_images(PROBE_BATCH, image_size, where)
            step = _train_step(model, itertools.repeat(images).__next__, where)
            rates.setdefault(name, {})[precision] = round(PROBE_BATCH / _seconds(step, where, at_least=PROBE_SECONDS / 2), 1)
    torch.set_num_threads(before)
    cost = {p: sum(1 / r[p] for r in rates.values()) for p in ("fp32", "bf16")}
    return ("bf16" if cost["bf16"] < cost["fp32"] else "fp32"), rates


def disk(study: Study, parameters: dict[str, int], left: dict[str, int], in_flight: int = 1) -> float:
    """Return the bytes that the study may still write: the network of every unfinished run, and two checkpoints of those in flight.

    A checkpoint has the weights, their running average and the optimizer's moments. `parameters` by backbone; `left`: runs to do by cell
    id.
    """
    weights = sum(4 * parameters[c.backbone] * left[c.id] for c in study.cells)
    averaged = any("ema" in study.asked(c.strategy) for c in study.cells)
    checkpoint = 4 * (1 + OPTIMIZERS[study.protocol.optimizer].moments + averaged) * max(parameters.values())
    return weights + 2 * checkpoint * min(in_flight, sum(left.values()))


def _random_images(count: int, size: int, where: Device) -> Tensor:
    return torch.randn(count, 3, size, size, device=where.device).contiguous(memory_format=torch.channels_last)


def _train_step(
    model: nn.Module, batch: Callable[[], Tensor], where: Device, optimizer: torch.optim.Optimizer | None = None
) -> Callable[[], None]:
    def step() -> None:
        with where.autocast():
            logits = model(batch())
        F.cross_entropy(logits.float(), torch.zeros(len(logits), dtype=torch.int64, device=where.device)).backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def _seconds(step: Callable[[], None], where: Device, at_least: float = 0.0) -> float:
    """Return the seconds of one step, over `STEPS` of them or as many as `at_least` seconds hold, after one to warm up."""
    step()
    where.wait()
    steps, began = 0, time.perf_counter()
    while steps < STEPS or time.perf_counter() - began < at_least:
        step()
        where.wait()
        steps += 1
    return (time.perf_counter() - began) / steps
