"""Cutting a network where training begins: what lies below is frozen, owes no gradient, and can be computed once."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from study.backbones import Backbone

TOLERANCE = 1e-4  # relative; the two halves must reproduce the whole network


class Split(nn.Module):
    """`trained(frozen(x))` equals the whole network; `frozen` is None when nothing can be cut off.

    Both halves together hold every tensor of the network once, under its own name.
    """

    def __init__(self, backbone: Backbone, cut: int, frozen: nn.Module | None, trained: nn.Module, prefix: str = "") -> None:
        super().__init__()
        self.frozen, self.trained, self.cut = frozen, trained, cut
        self.prefix = prefix  # of the trained half's tensor names, when that half is the bare head
        self.stages = backbone.stages
        self.arguments = backbone.arguments

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.trained(self.activations(images))
        return logits

    @torch.no_grad()
    def activations(self, images: Tensor) -> Tensor:
        return images if self.frozen is None else self.frozen(images)

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained half's parameters under the whole network's names."""
        for name, parameter in self.trained.named_parameters():
            yield self.prefix + name, parameter

    def network_state(self) -> dict[str, Tensor]:
        """The whole network's state dict."""
        state = {self.prefix + k: v for k, v in self.trained.state_dict().items()}
        if self.frozen is not None:
            state |= {k: v for k, v in self.frozen.state_dict().items() if k not in state}
        return state

    def trained_state(self) -> dict[str, Tensor]:
        """What training changes; the frozen half is known from the pretrained weights."""
        return {self.prefix + k: v for k, v in self.trained.state_dict().items()}

    def set_training(self, lrs: tuple[float | None, ...], batch_norm: str) -> None:
        """Train mode for trained stages alone: a frozen batch norm left in train mode would drift (its statistics move)."""
        self.trained.train()
        if self.frozen is not None:
            self.frozen.eval()
        still = {n for k, names in enumerate(self.stages) if lrs[k] is None for n in names}
        for name, module in self.trained.named_modules():
            own = [f"{self.prefix}{name}.{p}" if name else self.prefix + p for p, _ in module.named_parameters(recurse=False)]
            is_norm = getattr(module, "running_mean", None) is not None
            if own and all(n in still for n in own) or is_norm and batch_norm == "freeze":
                module.eval()


def split(backbone: Backbone, cut: int) -> Split:
    """Cuts `backbone.model` below stage `cut` (0 = below the head). Takes the model over.

    Works for networks whose forward is a chain of modules (ResNet, EfficientNet, MobileNet, ConvNeXt, RegNet, ...);
    that is checked on random input, and a network that is no such chain stays whole: correct, only slower.
    """
    model = backbone.model
    below = [n for k, names in enumerate(backbone.stages) if k > cut for n in names]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in set(below))
    whole = Split(backbone, cut, None, model)
    if not below:
        return whole
    if cut == 0:
        frozen = copy.deepcopy(model)
        halves = Split(backbone, cut, _Features(frozen, backbone.head), model.get_submodule(backbone.head), backbone.head + ".")
    else:
        frozen, trained = copy.deepcopy(model), copy.deepcopy(model)
        for path, is_below in _units(model, set(below)):
            _replace(trained if is_below else frozen, path)
        halves = Split(backbone, cut, _Trunk(frozen), trained)
    return halves if _equal(halves, model) else whole


class _Features(nn.Module):
    """Pooled features: everything but the classifier."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        _replace(model, head)

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.forward_features(images)  # type: ignore[operator]
        out: Tensor = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return out

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return self.model.state_dict(*args, **kwargs)


class _Trunk(nn.Module):
    """The stages below the cut; those above were replaced by identities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model.forward_features(images)  # type: ignore[operator]
        return out

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
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
    size = model.default_cfg.get("input_size", (3, 224, 224))  # type: ignore[union-attr]
    probe = torch.randn(2, size[0], *(min(s, 96) if not model.default_cfg.get("fixed_input_size") else s for s in size[1:]))  # type: ignore[union-attr]
    training = model.training
    model.eval(), halves.eval()
    try:
        expected, got = model(probe), halves(probe)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError):
        return False
    finally:
        model.train(training)
    return got.shape == expected.shape and bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1e-6))
