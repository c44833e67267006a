"""Cutting below the head alone: pooled features under a linear classifier.

It serves every network whose head timm can take off.
"""

import copy
from typing import Any

from torch import Tensor, nn

from study.networks.cutting.halves import Split
from study.networks.pretrained import Backbone
from study.networks.timm_model import as_timm


def cut_head(backbone: Backbone, cut: int) -> Split | None:
    """Cut below the head, or return None for a deeper cut and for networks with two heads."""
    if cut > 0 or len(backbone.heads) > 1:
        return None
    frozen, head = copy.deepcopy(backbone.model), backbone.model.get_submodule(backbone.head)
    return Split(
        _Features(frozen, backbone.head),
        head,
        cut=cut,
        slots=backbone.slots,
        arguments=backbone.arguments,
        prefix=backbone.head + ".",
        how="head",
    )


class _Features(nn.Module):
    """The network without its classifier. It returns pooled features."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        parent, _, name = head.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        timm_model = as_timm(self.model)
        return timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)
