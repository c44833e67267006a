"""The parts of a network, in words that need no torch: its parameters by stage and kind, and its start."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["weight", "bias", "norm", "embedding"]
"""The kinds of parameters. weight: matrices and kernels, the only kind that is decayed; norm: scales and shifts of normalisation, layer
scales too; embedding: positions, class and register tokens; bias: other parameters of one dimension."""

ALL_KINDS: frozenset[Kind] = frozenset(("weight", "bias", "norm", "embedding"))

Start = Literal["pretrained", "random"]


@dataclass(frozen=True)
class Slot:
    """One parameter of a network."""

    name: str  # timm's own
    stage: int  # counted from the head, which is 0
    kind: Kind
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Return the count of numbers in it."""
        return math.prod(self.shape)

    @property
    def shift(self) -> bool:
        """Return True where it is added to the activations: a bias, also that of a normalisation."""
        return self.kind == "bias" or (self.kind == "norm" and self.name.endswith("bias"))

    @property
    def matrix(self) -> tuple[int, int] | None:
        """Return (outputs, inputs) of a linear layer, or of a 1x1 convolution, which is one at every place of the image; None for
        others."""
        if self.kind != "weight" or len(self.shape) < 2 or self.size != self.shape[0] * self.shape[1] or 1 in self.shape[:2]:
            return None
        return self.shape[0], self.shape[1]
