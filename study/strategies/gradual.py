"""Gradual unfreezing: the head first, then group by group down to the input, each lower stage at a smaller rate (ULMFiT)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Integer, Log, Uniform
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class Gradual(Strategy):
    name: ClassVar[str] = "gradual"
    title: ClassVar[str] = "from the head down, group by group"
    source: ClassVar[str] = "Howard and Ruder 2018, arXiv 1801.06146"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    decay: Annotated[float, Uniform(0.3, 1.0)] = 0.385  # of a stage's rate, for the one below it: published as 1 / 2.6
    epochs_each: Annotated[int, Integer(1, 3)] = 1  # of every phase but the last

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        """Return as many phases as there are stages, or as the epochs allow; then a phase unfreezes several stages at once.

        Raises ValueError for fewer than 2 epochs.
        """
        if epochs < 2:
            raise ValueError(f"gradual needs at least 2 epochs (one for the head, one for the rest), not {epochs}.")
        count = min(stages + 1, max(epochs // self.epochs_each, 2))
        each = min(self.epochs_each, epochs - 1)
        return tuple(
            Phase(
                epochs=each if k < count - 1 else epochs - each * (count - 1),
                lrs=tuple(self.lr * self.decay**s if s <= round(k * stages / (count - 1)) else None for s in range(stages + 1)),
            )
            for k in range(count)
        )
