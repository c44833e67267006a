"""Cutting a network that is a chain of modules, checked on random input: ResNet, EfficientNet, MobileNet, ConvNeXt, RegNet, ..."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.pretrained import Backbone
from study.networks.split import Split
from study.networks.timm_model import as_timm

TOLERANCE = 1e-4  # relative; the two halves must reproduce the whole network


def split(backbone: Backbone, cut: int) -> Split:
    """Cuts `backbone.model` below stage `cut` (0 = below the head). Takes the model over.

    A network that is no chain stays whole: correct, only slower.
    """
    model = backbone.model
    below = {slot.name for slot in backbone.slots if slot.stage > cut}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in below)
    known: dict[str, Any] = {"cut": cut, "slots": backbone.slots, "arguments": backbone.arguments}
    whole = Split(None, model, **known)
    if not below:
        return whole
    if cut == 0:
        frozen = copy.deepcopy(model)
        head = model.get_submodule(backbone.head)
        halves = Split(_Features(frozen, backbone.head), head, prefix=backbone.head + ".", **known)
    else:
        frozen, trained = copy.deepcopy(model), copy.deepcopy(model)
        for path, is_below in _units(model, below):
            _replace(trained if is_below else frozen, path)
        halves = Split(_Trunk(frozen), trained, **known)
    return halves if _equal(halves, model) else whole


class _Features(nn.Module):
    """Pooled features: everything but the classifier."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        _replace(model, head)

    def forward(self, images: Tensor) -> Tensor:
        timm_model = as_timm(self.model)
        return timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)


class _Trunk(nn.Module):
    """The stages below the cut; those above were replaced by identities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return as_timm(self.model).forward_features(images)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)


def _units(module: nn.Module, below: set[str], path: str = "", last: bool = True) -> Iterator[tuple[str, bool]]:
    """The modules of the chain, in order, and whether each lies below the cut.

    A module whose parameters lie on both sides is descended into. One without parameters (an activation,
    a pooling) goes with the module before it; those after the last stage stay above.
    """
    for name, child in module.named_children():
        full = f"{path}{name}"
        sides = {f"{full}.{p}" in below for p, _ in child.named_parameters()}
        if len(sides) == 2:
            yield from _units(child, below, full + ".", last)
            last = False
            continue
        last = sides.pop() if sides else last
        yield full, last


def _replace(model: nn.Module, path: str) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())


@torch.no_grad()
def _equal(halves: Split, model: nn.Module) -> bool:
    settings = as_timm(model).default_cfg
    channels, *sides = settings.get("input_size", (3, 224, 224))
    probe = torch.randn(2, channels, *(s if settings.get("fixed_input_size") else min(s, 96) for s in sides))
    training = model.training
    model.eval(), halves.eval()
    try:
        expected, got = model(probe), halves(probe)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError):
        return False
    finally:
        model.train(training)
    return got.shape == expected.shape and bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1e-6))
