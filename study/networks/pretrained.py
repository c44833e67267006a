"""A pretrained network with a fresh head: its parameters as slots (stage counted from the head, kind), each in exactly one stage."""

import os
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from study.errors import ConfigError
from study.networks.slots import Kind, Slot, Start
from study.networks.timm_model import as_timm
from study.networks.weights import Weights, find_weights, timm_name


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network before fine-tuning, and what is known of it."""

    name: str
    model: nn.Module
    head: str  # name of the classifier module
    slots: tuple[Slot, ...]  # every parameter once, in the order of the network
    mean: tuple[float, ...]  # per channel, of images in [0, 1]
    std: tuple[float, ...]
    weights: str  # where they came from
    fingerprint: str  # sha256 of the pretrained tensors; "random:SEED" where there are none
    arguments: dict[str, Any]  # what timm needs to build it again, e.g. pad_type

    @property
    def num_stages(self) -> int:
        """Stages below the head."""
        return max(slot.stage for slot in self.slots)

    def names(self, stage: int) -> list[str]:
        """The parameters of a stage; 0 is the head."""
        return [slot.name for slot in self.slots if slot.stage == stage]


def create(
    name: str,
    num_classes: int | None,
    *,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    start: Start = "pretrained",
) -> Backbone:
    """The network with its pretrained weights, strictly loaded, and a head drawn from `seed`; with `num_classes` None, the head it came with.

    `start="random"` draws all of it from `seed`: the control that reuses nothing. Raises ConfigError when the name is unknown, or when
    no weights can be had: it never trains from scratch silently.
    """
    full = timm_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if start == "random":
            model, found = timm.create_model(full, pretrained=False, num_classes=1000 if num_classes is None else num_classes), None
        else:
            found = find_weights(name, weights)
            model = _load(full, found)
            torch.manual_seed(seed)
            if num_classes is not None:
                as_timm(model).reset_classifier(num_classes)
    settings = as_timm(model).default_cfg
    return Backbone(
        name=name,
        model=model,
        head=str(settings["classifier"]),
        slots=slots_of(model),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        weights=found.source if found else f"none: drawn from seed {seed}",
        fingerprint=found.fingerprint if found else f"random:{seed}",
        arguments=found.arguments if found else {},
    )


def _load(full: str, weights: Weights) -> nn.Module:
    model: nn.Module = timm.create_model(full, pretrained=False, num_classes=weights.num_classes, **weights.arguments)
    try:
        model.load_state_dict(weights.state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{weights.source} does not fit {full}: {reason}. Give weights made for this network.") from None
    return model


def slots_of(model: nn.Module) -> tuple[Slot, ...]:
    """Every parameter with its stage and kind.

    Stages are timm's coarse groups. What timm files with the classifier but is not part of it
    (a last norm, conv_head) belongs to the stage next to the head: every parameter is in exactly one.
    """
    stages = _stages(model)
    stage_of = {name: k for k, names in enumerate(stages) for name in names}
    kinds = _kinds(model)
    return tuple(Slot(name, stage_of[name], kinds[name]) for name, _ in model.named_parameters())


def _stages(model: nn.Module) -> list[list[str]]:
    """[0] = parameters of the head, [k] = of stage k counted from it."""
    head = str(as_timm(model).default_cfg["classifier"])
    groups = group_parameters(model, as_timm(model).group_matcher(coarse=True))
    in_head = [n for n, _ in model.named_parameters() if n.startswith(head + ".")]
    forward = [[n for n in names if n not in set(in_head)] for _, names in sorted(groups.items())]
    if len(forward) > 1 and len(forward[-1]) < len(groups[max(groups)]):  # the classifier's own group
        rest = forward.pop()
        forward[-1] += rest
    return [in_head, *reversed([names for names in forward if names])]


def _kinds(model: nn.Module) -> dict[str, Kind]:
    in_norms = {id(p) for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}
    tables = set(as_timm(model).no_weight_decay()) if hasattr(model, "no_weight_decay") else set()

    def kind(name: str, parameter: nn.Parameter) -> Kind:
        if name in tables:
            return "embedding"
        if id(parameter) in in_norms or (parameter.ndim <= 1 and not name.endswith("bias")):
            return "norm"  # a vector that is no bias scales something
        return "bias" if parameter.ndim <= 1 else "weight"

    return {name: kind(name, parameter) for name, parameter in model.named_parameters()}
