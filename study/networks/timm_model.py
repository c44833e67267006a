"""Types of timm's networks for the type checker: torch types every attribute of a module as Tensor or Module."""

from typing import Any, Protocol, cast

from torch import Tensor, nn


class TimmModel(Protocol):
    default_cfg: dict[str, Any]

    def __call__(self, images: Tensor) -> Tensor: ...

    def forward_features(self, images: Tensor) -> Tensor: ...

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor: ...

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]: ...

    def reset_classifier(self, num_classes: int) -> None: ...

    def no_weight_decay(self) -> set[str]: ...


def as_timm(model: nn.Module) -> TimmModel:
    return cast(TimmModel, model)
