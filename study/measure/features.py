"""A network's outputs and features for images, and the choice of images: shared by all measurements, so that they see the same pixels."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.datasets.spec import TEST, TRAIN, VAL, ImageTable, spread
from study.inference.classifier import BATCH
from study.inference.pixels import plain
from study.measure.base import Finished
from study.metrics import from_confusion
from study.strategies.slots import Slot

T = TypeVar("T")
MOST_IMAGES = 512  # of a split: unbiased estimates need no more, and 30 runs are measured
PLACES = 4  # features are pooled to at most 4 x 4 places
REMEMBERED = 64
_memory: OrderedDict[object, Any] = OrderedDict()


def remembered(key: object, make: Callable[[], T]) -> T:
    """Return the result of `make`, called once a process: results of the pretrained network alone are the same for every run of a
    study."""
    if key not in _memory:
        _memory[key] = make()
        while len(_memory) > REMEMBERED:
            _memory.popitem(last=False)
    _memory.move_to_end(key)
    found: T = _memory[key]
    return found


def chosen(table: ImageTable, split: int, most: int = MOST_IMAGES) -> np.ndarray:
    """Return at most `most` images of a split, classes in proportion: the same ones for every network."""
    return spread(np.flatnonzero(table.split == split), table.kinds, most)


def batches(finished: Finished, pixels: np.ndarray) -> Iterator[Tensor]:
    """Yield uint8 [N, S, S, C] as the network takes them, without augmentation, a batch at a time on its device."""
    size, where = finished.config.protocol.image_size, finished.network.where
    for start in range(0, len(pixels), BATCH):
        raw = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(where.device)
        yield plain(raw, size=size, mean=finished.network.mean, std=finished.network.std)


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A network's logits for images and the inputs of its head: float32 [N, classes], float32 [N, D]."""

    logits: np.ndarray
    features: np.ndarray


@torch.no_grad()
def look(finished: Finished, model: nn.Module, head: str, pixels: np.ndarray) -> Look:
    """Return the outputs of `model` in eval mode on `pixels`; `head`: name of its classifier, whose input the features are."""
    seen: list[Tensor] = []
    hook = model.get_submodule(head).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.eval()
    logits, features = [], []
    try:
        for batch in batches(finished, pixels):
            seen.clear()
            with finished.network.where.autocast():
                out = model(batch)
            logits.append(out.float().cpu().numpy())
            features.append(seen[-1].float().flatten(1).cpu().numpy())
    finally:
        hook.remove()
    return Look(logits=np.concatenate(logits), features=np.concatenate(features))


@contextmanager
def stage_outputs(model: nn.Module, slots: tuple[Slot, ...]) -> Iterator[dict[int, Tensor]]:
    """Fill a dictionary in every forward pass inside the block: by stage, 1 next to the head, the output of its last module."""
    stage_of = {slot.name: slot.stage for slot in slots}
    out: dict[int, Tensor] = {}

    def listen(stage: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            if isinstance(result, Tensor):
                out[stage] = result.detach()

        return hook

    hooks = [module.register_forward_hook(listen(stage)) for module, stage in _whole_modules(model, stage_of, "") if stage > 0]
    try:
        yield out
    finally:
        for hook in hooks:
            hook.remove()


def _whole_modules(module: nn.Module, stage_of: dict[str, int], path: str) -> Iterator[tuple[nn.Module, int]]:
    """Yield the largest modules all of whose parameters belong to one stage."""
    for name, child in module.named_children():
        stages = {stage_of[f"{path}{name}.{p}"] for p, _ in child.named_parameters()}
        if len(stages) == 1:
            yield child, stages.pop()
        elif stages:
            yield from _whole_modules(child, stage_of, f"{path}{name}.")


def pooled(activations: Tensor) -> Tensor:
    """Return [B, C, H, W], [B, H, W, C] or [B, T, D] averaged over at most PLACES x PLACES places, flat: float32 [B, features]."""
    x = activations.float()
    if x.ndim == 4:
        if x.shape[1] == x.shape[2] != x.shape[3]:
            x = x.permute(0, 3, 1, 2)
        x = F.adaptive_avg_pool2d(x, (min(PLACES, x.shape[2]), min(PLACES, x.shape[3])))
    elif x.ndim == 3:
        x = F.adaptive_avg_pool1d(x.transpose(1, 2), min(PLACES * PLACES, x.shape[1]))
    return x.flatten(1)


def scores(said: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, float]:
    """Return accuracy and macro-F1 of answers [N] against labels [N]; macro averages go over the classes that occur."""
    confusion = np.bincount(truth * classes + said, minlength=classes * classes).reshape(classes, classes)
    found = from_confusion(confusion.astype(float))
    return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"]}


__all__ = ["TEST", "TRAIN", "VAL", "Look", "batches", "chosen", "look", "pooled", "remembered", "scores", "stage_outputs"]
