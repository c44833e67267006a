"""What a network is made of, in words that need no torch: its parameters by stage and kind, and what it starts from."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["weight", "bias", "norm", "embedding"]
"""weight: matrices and kernels, the only kind that is decayed; norm: scales and shifts of normalisation, layer scales too;
embedding: positions, class and register tokens; bias: the rest of one dimension."""

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
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def shift(self) -> bool:
        """Whether it is added to what passes: a bias, that of a normalisation too."""
        return self.kind == "bias" or (self.kind == "norm" and self.name.endswith("bias"))

    @property
    def matrix(self) -> tuple[int, int] | None:
        """(outputs, inputs) of a linear layer, or of a 1x1 convolution, which is one at every place of the image; None for all else."""
        if self.kind != "weight" or len(self.shape) < 2 or self.size != self.shape[0] * self.shape[1] or 1 in self.shape[:2]:
            return None
        return self.shape[0], self.shape[1]
