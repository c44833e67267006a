"""What a network is made of, in words that need no torch: its parameters by stage and kind, and what it starts from."""

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
