"""The cut of a network that is a chain of modules: ResNet, EfficientNet, MobileNet, ConvNeXt, RegNet, ..."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from study.networks.cutting.halves import Split
from study.networks.pretrained import Backbone
from study.networks.timm_model import as_timm


def cut_chain(backbone: Backbone, cut: int) -> Split | None:
    """Cut below stage `cut`, or return None for the head alone.

    Modules above the cut become identities in the frozen half, those below in the trained one.
    """
    if cut == 0:
        return None
    below = {slot.name for slot in backbone.slots if slot.stage > cut}
    frozen, trained = copy.deepcopy(backbone.model), copy.deepcopy(backbone.model)
    for path, is_below in _units(backbone.model, below):
        parent, _, name = path.rpartition(".")
        setattr((trained if is_below else frozen).get_submodule(parent), name, nn.Identity())
    return Split(_Trunk(frozen), trained, cut=cut, slots=backbone.slots, arguments=backbone.arguments, how="chain")


class _Trunk(nn.Module):
    """The stages below the cut. Those above were replaced by identities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return as_timm(self.model).forward_features(images)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)


def _units(module: nn.Module, below: set[str], path: str = "", last: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the modules of the chain in order, each with True where it lies below the cut.

    A module with parameters on both sides is split into its children. One without parameters (an activation, a pooling) goes with the
    module before it, and those after the last stage stay above.
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
