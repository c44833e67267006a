"""The training loops that are compared.

Each is made for a setting, a network, a strategy and a size. When called, it trains one epoch and returns images per second. Weights and
pixels are random, since speed does not depend on them.
"""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from study.datasets.spec import ImageTable
from study.datasets.visible import cut_off_test
from study.inference.device import Device
from study.networks.cutting.cut import split
from study.networks.image_sizes import sized
from study.networks.pretrained import create, slots_of
from study.networks.weights import timm_name
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.training.inputs import Inputs
from study.training.loop import fine_tune
from study.training.optimizers import make_optimizer

CLASSES = 7
Loop = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The size of an epoch, and the workers that load it."""

    images: int = 192  # an epoch
    batch: int = 32
    workers: int = 2  # DataLoader workers of the others


def table(size: int, images: int) -> ImageTable:
    """Return a table of random pixels in memory, most of them in the training split."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images + 16, size, size, 3), dtype=np.uint8)
    split_of = np.r_[np.zeros(images), np.ones(8), np.full(8, 2)].astype(np.int8)
    return ImageTable(
        name="random", classes=tuple("abcdefg"), ids=tuple(map(str, range(images + 16))),
        labels=rng.integers(0, CLASSES, images + 16), split=split_of, form="random pixels", fingerprint=f"random-{size}-{images}",
        decode=lambda i: pixels[i], policy="strong", channels=3, native_size=size,
    )  # fmt: skip


def given_inputs(given: ImageTable, config: TrialConfig, cache: Path) -> Inputs:
    """Return the inputs of a table that is at hand instead of one that is opened by name."""
    return Inputs(cut_off_test(given, np.stack([given.decode(k) for k in range(len(given.ids))])), config, cache)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ours(setting: Setting, network: str, strategy: str, size: int, precision: str, weights: str, views: int, cache: Path) -> Loop:
    """Return the product's own loop. Each call trains one more epoch."""
    protocol = Protocol(
        max_epochs=100_000, image_size=size, batch_size=setting.batch, views=views, train_eval_images=8,
        precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    config = TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=strategy), protocol)
    epochs = fine_tune(config, given_inputs(table(size, setting.images), config, cache), weights=weights)

    def epoch() -> float:
        record, _ = next(epochs)
        return record.images / record.train_seconds

    return epoch


def ceiling(
    setting: Setting,
    network: str,
    strategy: str,
    size: int,
    precision: str,
    weights: str,
    compiled: bool = False,
    layout: torch.memory_format = torch.channels_last,
) -> Loop:
    """Return a loop of the same model and optimizer on one batch that stays in memory: nothing but arithmetic."""
    where = Device.best(precision)
    backbone = create(network, CLASSES, weights=weights, image_size=size)
    config = TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=strategy), Protocol(image_size=size))
    (phase,) = config.strategy.phases(backbone.num_stages, 10)
    model = split(backbone, phase.cut).to(where.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, phase, config.recipe, "adamw")
    model.set_training(phase, "train")
    forward = torch.compile(model) if compiled else model
    x = torch.randn(setting.batch, 3, size, size, device=where.device).contiguous(memory_format=layout)
    y = torch.randint(0, CLASSES, (setting.batch,), device=where.device)

    def epoch() -> float:
        began = time.perf_counter()
        for _ in range(setting.images // setting.batch):
            optimizer.zero_grad(set_to_none=True)
            with where.autocast():
                logits = forward(x)
            F.cross_entropy(logits.float(), y, label_smoothing=0.1).backward()
            torch.nn.utils.clip_grad_norm_(model.trained.parameters(), 1.0)
            optimizer.step()
        if where.device.type == "cuda":
            torch.cuda.synchronize()
        return setting.images / (time.perf_counter() - began)

    return epoch


def flops_of_a_step(network: str, strategy: str, size: int, weights: str, reused: bool = False) -> float:
    """Return the floating-point operations of one training image, counted by torch (a multiply-add is two).

    With `reused` those of the frozen half are left out.
    """
    from torch.utils.flop_counter import FlopCounterMode

    backbone = create(network, CLASSES, weights=weights, image_size=size)
    config = TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=strategy), Protocol(image_size=size))
    (phase,) = config.strategy.phases(backbone.num_stages, 10)
    model = split(backbone, phase.cut)
    model.set_training(phase, "train")
    rows = torch.randn(2, 3, size, size)
    rows, forward = (model.activations(rows), model.trained) if reused else (rows, model)
    with FlopCounterMode(display=False) as counter:
        forward(rows).logsumexp(1).mean().backward()
    return counter.get_total_flops() / 2


def people_s_model(network: str, strategy: str, size: int) -> nn.Module:
    """Return the network with requires_grad = False below the trained part, which is how it is usually frozen."""
    model = timm.create_model(timm_name(network), num_classes=CLASSES, **sized(timm_name(network), size, {})).to(device())
    if strategy != "full":
        keep = {slot.name for slot in slots_of(model) if slot.stage <= (0 if strategy == "linear_probe" else 1)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in keep)
    return model


class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A data set of PIL images with a transform, in the form of torchvision's and timm's folders."""

    def __init__(self, images: int, size: int, transform: Callable[[Any], Any] | None) -> None:
        self.images, self.data, self.transform = images, table(size, images), transform

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, k: int) -> Any:
        image = Image.fromarray(self.data.decode(k))
        return (self.transform(image) if self.transform else image), int(self.data.labels[k])


def loader(setting: Setting, size: int) -> Any:
    change = transforms.Compose([
        transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.RandomRotation(22),
        transforms.ColorJitter(0.15, 0.15, 0.15), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ])  # fmt: skip
    return torch.utils.data.DataLoader(
        Images(setting.images, size, change), batch_size=setting.batch, shuffle=True, num_workers=setting.workers, persistent_workers=True,
        pin_memory=device().type == "cuda",
    )  # fmt: skip


def plain(setting: Setting, network: str, strategy: str, size: int) -> Loop:
    """Return the loop that people write: torchvision transforms on PIL images, DataLoader workers, fp32."""
    batches, model = loader(setting, size), people_s_model(network, strategy, size)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def epoch() -> float:
        model.train()
        began, total = time.perf_counter(), 0.0
        for x, y in batches:
            x, y = x.to(device()), y.to(device())
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return setting.images / (time.perf_counter() - began)

    return epoch


def timm_s(setting: Setting, network: str, strategy: str, size: int) -> Loop:
    """Return timm's recipe from its own parts: loader, loss and optimizer factories, put together as in its train.py."""
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    model = people_s_model(network, strategy, size)
    batches = create_loader(
        Images(setting.images, size, None), input_size=(3, size, size), batch_size=setting.batch, is_training=True,
        num_workers=setting.workers, color_jitter=0.15,
        use_prefetcher=device().type == "cuda", device=device(), pin_memory=device().type == "cuda",
    )  # fmt: skip
    loss_of = LabelSmoothingCrossEntropy(0.1)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-4, weight_decay=0.05)

    def epoch() -> float:
        model.train()
        began = time.perf_counter()
        for x, y in batches:
            x, y = x.to(device()), y.to(device())
            loss = loss_of(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        float(loss.detach())
        return setting.images / (time.perf_counter() - began)

    return epoch


def lightning_s(setting: Setting, network: str, strategy: str, size: int) -> Loop:
    """Return Lightning's Trainer with its defaults, without logging and checkpoints.

    An epoch is timed from its first batch to its last.
    """
    import lightning

    warnings.filterwarnings("ignore", module="lightning")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = people_s_model(network, strategy, size)

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            return F.cross_entropy(self.model(x), y, label_smoothing=0.1)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-4)

    class Clock(lightning.Callback):
        seconds = 0.0

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            Clock.seconds = time.perf_counter() - self.began

    module, batches = Module(), loader(setting, size)

    def epoch() -> float:
        trainer = lightning.Trainer(
            max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.fit(module, batches)
        return setting.images / Clock.seconds

    return epoch
