"""Strategy B with batch norm in eval mode: its statistics stay as pretrained, its scales and shifts are trained."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy, check_lr
from study.strategies.full import Full


@dataclass(frozen=True, kw_only=True)
class FullBnFreeze(Strategy):
    name: ClassVar[str] = "full_bn_freeze"
    title: ClassVar[str] = "B, batch-norm statistics as pretrained"
    source: ClassVar[str] = "code of Kumar et al. 2022, arXiv 2202.10054"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3

    def __post_init__(self) -> None:
        check_lr(self.lr)

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return tuple(replace(phase, freeze_statistics=True) for phase in Full(lr=self.lr).phases(stages, epochs))
