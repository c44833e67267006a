"""Partial fine-tuning (Strategy A): the last stages and the head; the rest stays as pretrained.

`unfreeze_depth` counts stages from the head. A search counts in steps instead, the same number for every network: a network of few stages
is unfrozen one stage a step, a deep one (a transformer's blocks) evenly, from its last block to all but its stem.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.canonical import added
from study.space import Log, Steps
from study.strategies.base import Phase, Strategy

FEW = 8
"""The number of stages below the head, stem included, up to which a step is a stage: ResNets have 5, EfficientNets 8, small transformers
13."""


@dataclass(frozen=True, kw_only=True)
class Partial(Strategy):
    name: ClassVar[str] = "partial"
    title: ClassVar[str] = "A: last stages + head"
    source: ClassVar[str] = "Yosinski et al. 2014, arXiv 1411.1792"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    unfreeze_depth: Annotated[int, Steps(1, 4)] = 1
    depth_steps: int = added(0, since=6)  # so many steps lead through the whole depth; 0: unfreeze_depth counts stages

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (type(self.depth_steps) is int and (self.depth_steps == 0 or self.depth_steps >= max(self.unfreeze_depth, 2))):
            raise ValueError(
                f"depth_steps must be 0 (unfreeze_depth counts stages) or at least 2 and unfreeze_depth {self.unfreeze_depth}, "
                f"not {self.depth_steps!r}."
            )

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        depth = self.depth(stages)
        if depth > stages:
            raise ValueError(f"unfreeze_depth {self.unfreeze_depth} is more than this network's {stages} stages.")
        return (Phase(epochs=epochs, lrs=(self.lr,) * (depth + 1) + (None,) * (stages - depth)),)

    def depth(self, stages: int) -> int:
        """Return the number of trained stages below the head, of a network that has `stages` of them."""
        if self.depth_steps == 0 or stages <= FEW:
            return self.unfreeze_depth
        return 1 + round((self.unfreeze_depth - 1) * (stages - 2) / (self.depth_steps - 1))
