"""Strategy B with batch norm in eval mode: its statistics stay as pretrained, its scales and shifts are trained."""

from dataclasses import dataclass, replace
from typing import ClassVar

from study.strategies.base import Phase
from study.strategies.full import Full


@dataclass(frozen=True, kw_only=True)
class FullBnFreeze(Full):
    name: ClassVar[str] = "full_bn_freeze"
    title: ClassVar[str] = "B, batch-norm statistics as pretrained"
    source: ClassVar[str] = "code of Kumar et al. 2022, arXiv 2202.10054"

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return tuple(replace(phase, freeze_statistics=True) for phase in super().phases(stages, epochs))
