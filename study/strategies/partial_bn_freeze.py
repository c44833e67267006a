"""Strategy A with batch norm in eval mode: its statistics stay as pretrained, its scales and shifts are trained."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from study.space import Integer, Log
from study.strategies.base import Phase, Strategy, check_lr, check_whole
from study.strategies.partial import Partial


@dataclass(frozen=True, kw_only=True)
class PartialBnFreeze(Strategy):
    name: ClassVar[str] = "partial_bn_freeze"
    title: ClassVar[str] = "A, batch-norm statistics as pretrained"
    source: ClassVar[str] = "code of Kumar et al. 2022, arXiv 2202.10054"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    unfreeze_depth: Annotated[int, Integer(1, 4)] = 1

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_whole("unfreeze_depth", self.unfreeze_depth)

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        same = Partial(lr=self.lr, unfreeze_depth=self.unfreeze_depth).phases(stages, epochs)
        return tuple(replace(phase, freeze_statistics=True) for phase in same)
