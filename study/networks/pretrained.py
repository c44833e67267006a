"""A pretrained network with a fresh head: its parameters as slots (stage counted from the head, kind), each in exactly one stage."""

import fnmatch
import functools
import os
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import DropPath
from timm.models import group_parameters
from torch import nn

from study.errors import ConfigError
from study.networks.image_sizes import refusal, sized
from study.networks.timm_model import as_timm
from study.networks.weights import Weights, find_weights, timm_name
from study.storage.refusals import one_line
from study.strategies.slots import Kind, Slot, Start

SMALLEST = 0.001
"""The share of the parameters below which a stage next to the head is joined to the one below it."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network before fine-tuning, with the facts known of it."""

    name: str
    model: nn.Module
    heads: tuple[str, ...]  # names of the classifier modules: one, or two where a network was distilled
    slots: tuple[Slot, ...]  # every parameter once, in the order of the network
    mean: tuple[float, ...]  # per channel, of images in [0, 1]
    std: tuple[float, ...]
    weights: str  # where they came from
    fingerprint: str  # sha256 of the pretrained tensors; "random:SEED" where there are none
    arguments: dict[str, Any]  # what timm needs to build it again, e.g. pad_type, img_size
    input_size: tuple[int, int, int]  # channels, height, width of the images it will see

    @property
    def head(self) -> str:
        """Return the name of the classifier module, or of the first."""
        return self.heads[0]

    @property
    def num_stages(self) -> int:
        """Return the number of stages below the head."""
        return max(slot.stage for slot in self.slots)

    def names(self, stage: int) -> list[str]:
        """Return the names of the parameters of a stage; 0 is the head."""
        return [slot.name for slot in self.slots if slot.stage == stage]


def create(
    name: str,
    num_classes: int | None,
    *,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    start: Start = "pretrained",
    image_size: int | None = None,
    drop_path: float = 0.0,
) -> Backbone:
    """Return the network with its pretrained weights, strictly loaded, and a head drawn from `seed`.

    With `num_classes` None it has the head it came with. `start="random"` draws all of it from `seed`: the control that reuses nothing.
    `image_size` (pixels, square; None: the network's own) is passed to networks that are built for one size; timm resamples their weights
    by position. `drop_path`: timm's drop_path_rate, the share of images that skip the deepest block in training, less in those before it;
    it is no part of the kept network.

    Raises ConfigError when the name is unknown, or when there are no weights: it never trains from scratch silently.
    """
    full = timm_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if start == "random":
            found, arguments = None, sized(full, image_size, {})
            model = _build(full, 1000 if num_classes is None else num_classes, arguments, drop_path)
        else:
            found = find_weights(name, weights)
            arguments = sized(full, image_size, found.arguments)
            model = _load(full, found, arguments, drop_path)
            torch.manual_seed(seed)
            if num_classes is not None:
                as_timm(model).reset_classifier(num_classes)
    settings = as_timm(model).default_cfg
    channels, *sides = settings["input_size"]
    return Backbone(
        name=name,
        model=model,
        heads=heads_of(model),
        slots=slots_of(model),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        weights=found.source if found else f"none: drawn from seed {seed}",
        fingerprint=found.fingerprint if found else f"random:{seed}",
        arguments=arguments,
        input_size=(channels, *(2 * (image_size,) if image_size else sides)),
    )


def _load(full: str, weights: Weights, arguments: dict[str, Any], drop_path: float) -> nn.Module:
    if arguments == weights.arguments:
        model = _build(full, weights.num_classes, arguments, drop_path)
        try:
            model.load_state_dict(weights.state, strict=True)
        except RuntimeError as error:
            raise _unfit(full, weights, error) from None
        return model
    own = {"state_dict": dict(weights.state), "num_classes": weights.num_classes, "label_offset": 0}  # of another size: timm resamples
    try:
        return _build(full, weights.num_classes, {**arguments, "pretrained": True, "pretrained_cfg_overlay": own}, drop_path)
    except (RuntimeError, KeyError) as error:
        raise _unfit(full, weights, error) from None


def _build(full: str, num_classes: int, arguments: dict[str, Any], drop_path: float = 0.0) -> nn.Module:
    """Return timm's network. Raises ConfigError in one line where timm refuses: a size that is no multiple of its patches or windows, or
    paths that it cannot drop."""
    given: dict[str, Any] = {
        "pretrained": False,
        "num_classes": num_classes,
        **arguments,
        **({"drop_path_rate": drop_path} if drop_path else {}),
    }
    if drop_path and not _takes_drop_path(full):
        raise ConfigError(f"{full} has no paths to drop (timm gives it no drop_path_rate): leave drop_path 0, or choose another backbone.")
    try:
        model: nn.Module = timm.create_model(full, **given)
    except (AssertionError, ValueError, TypeError, ZeroDivisionError, NotImplementedError) as error:
        raise refusal(full, arguments.get("img_size"), error) from None
    return model


@functools.lru_cache(maxsize=16)
def _takes_drop_path(full: str) -> bool:
    """Return True where timm's network has blocks that are skipped at random: some lack the argument, some take it and ignore it."""
    try:
        with torch.device("meta"):
            model = timm.create_model(full, pretrained=False, drop_path_rate=0.1)
    except (TypeError, AssertionError):
        return False
    return any(isinstance(m, DropPath) and m.drop_prob for m in model.modules())


def _unfit(full: str, weights: Weights, error: Exception) -> ConfigError:
    return ConfigError(f"{weights.source} does not fit {full}: {one_line(error)}. Give weights made for this network.")


def slots_of(model: nn.Module) -> tuple[Slot, ...]:
    """Return every parameter with its stage and kind.

    Stages are timm's coarse groups. Parameters that timm groups with the classifier without being part of it (a last norm, conv_head)
    belong to the stage next to the head: every parameter is in exactly one.
    """
    stages = _stages(model)
    stage_of = {name: k for k, names in enumerate(stages) for name in names}
    kinds = _kinds(model)
    return tuple(Slot(name, stage_of[name], kinds[name], tuple(p.shape)) for name, p in model.named_parameters())


def heads_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the classifier modules. Raises ConfigError where timm names none."""
    named = as_timm(model).default_cfg.get("classifier")
    if not named:
        raise ConfigError(f"timm names no classifier of {type(model).__name__}, so there is no head to train. Choose another backbone.")
    return (named,) if isinstance(named, str) else tuple(named)


def _groups(model: nn.Module) -> dict[int, list[str]]:
    """Return timm's coarse groups of parameters, in the order of the network; where it has none, the network's modules, lists of them
    split."""
    try:
        found: dict[int, list[str]] = group_parameters(model, as_timm(model).group_matcher(coarse=True))
        return found
    except (AttributeError, AssertionError, NotImplementedError):  # none, or none that is coarse
        pass
    prefixes: list[str] = []
    for name, child in model.named_children():
        inner = [f"{name}.{n}." for n, _ in child.named_children()]
        prefixes += inner if isinstance(child, (nn.Sequential, nn.ModuleList)) else [f"{name}."]
    groups: dict[int, list[str]] = {}
    for parameter, _ in model.named_parameters():
        groups.setdefault(next((k for k, p in enumerate(prefixes) if parameter.startswith(p)), 0), []).append(parameter)
    return groups


def _stages(model: nn.Module) -> list[list[str]]:
    """Return [0] = parameters of the head, [k] = of stage k counted from it."""
    heads = tuple(f"{head}." for head in heads_of(model))
    groups = _groups(model)
    in_head = [n for n, _ in model.named_parameters() if n.startswith(heads)]
    forward = [[n for n in names if n not in set(in_head)] for _, names in sorted(groups.items())]
    if len(forward) > 1 and len(forward[-1]) < len(groups[max(groups)]):  # the classifier's own group
        rest = forward.pop()
        order = {name: k for k, (name, _) in enumerate(model.named_parameters())}
        early = [n for n in rest if order[n] < min(order[m] for m in forward[-1])]  # e.g. position tables that all blocks share
        forward[-1] += [n for n in rest if n not in early]
        forward[0] += early
    stages = [in_head, *reversed([names for names in forward if names])]
    size = {name: p.numel() for name, p in model.named_parameters()}
    if len(stages) > 2 and sum(size[n] for n in stages[1]) < SMALLEST * sum(size.values()):  # a last norm alone: no depth to speak of
        stages[1:3] = [stages[1] + stages[2]]
    return stages


def _kinds(model: nn.Module) -> dict[str, Kind]:
    in_norms = {id(p) for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}
    tables = set(as_timm(model).no_weight_decay()) if hasattr(model, "no_weight_decay") else set()

    def kind(name: str, parameter: nn.Parameter) -> Kind:
        if any(fnmatch.fnmatch(name, table) for table in tables):
            return "embedding"
        if id(parameter) in in_norms or (parameter.ndim <= 1 and not name.endswith("bias")):
            return "norm"  # a vector that is no bias scales something
        return "bias" if parameter.ndim <= 1 else "weight"

    return {name: kind(name, parameter) for name, parameter in model.named_parameters()}
