"""The crossing: the tensors that the trained half needs from the frozen half, in one forward pass.

In the frozen half the network's own code computes them, and they are recorded and packed into one tensor [N, ...] of activations, one row
per image. In the trained half that tensor is unpacked, and each part is inserted where the network's own code expects it.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from study.networks.cutting.nests import Position, Shape, leaves, rebuild


@dataclass
class Crossing:
    """The tensors that cross the cut in one forward pass of one half, with the number of calls of each module so far."""

    positions: dict[Position, int] = field(
        default_factory=dict
    )  # -> which of `shapes` is there: one tensor may be seen in several positions
    shapes: tuple[Shape, ...] = ()
    images: int = 0
    like: Tensor = field(default_factory=lambda: torch.zeros(()))  # tells the device
    tensors: list[Tensor | None] = field(default_factory=list)  # one for each of `shapes`; None: not recorded yet
    calls: Counter[str] = field(default_factory=Counter)

    def begin(self, like: Tensor, tensors: list[Tensor | None]) -> None:
        """Begin a forward pass of `len(like)` images with these tensors."""
        self.images, self.like, self.tensors, self.calls = len(like), like, tensors, Counter()

    def release(self) -> None:
        """Release the tensors of the last pass."""
        self.like, self.tensors = torch.zeros(()), []

    def next_call(self, path: str) -> int:
        """Return the number of this call of the module, from 0."""
        self.calls[path] += 1
        return self.calls[path] - 1

    def record(self, path: str, call: int, value: Any) -> None:
        """Record the tensors of `value` that cross the cut."""
        for number, tensor in enumerate(leaves(value)):
            if (index := self.positions.get((path, call, number))) is not None and self.tensors[index] is None:
                self.tensors[index] = tensor.clone()  # the network's own code may change it in place

    def insert(self, path: str, call: int, value: Any) -> Any:
        """Return `value` with the tensors that crossed the cut in their places."""
        numbers = iter(range(10**9))

        def one(tensor: Tensor) -> Tensor:
            index = self.positions.get((path, call, next(numbers)))
            found = tensor if index is None else self.tensors[index]
            assert found is not None
            return found

        return rebuild(value, one)

    def pack(self) -> Tensor:
        """Return one tensor [images, ...] of all that crosses the cut: a single one in its shape, several as [images, K].

        Raises RuntimeError where one of them was not recorded.
        """
        rows = [s.by_image(t, self.images) for s, t in zip(self.shapes, self.tensors, strict=True) if t is not None]
        if len(rows) < len(self.shapes):
            raise RuntimeError("a tensor that crosses the cut was never seen")
        return rows[0] if len(rows) == 1 else torch.cat([r.reshape(self.images, -1).float() for r in rows], dim=1)

    def unpack(self, rows: Tensor) -> list[Tensor | None]:
        """Undo `pack`."""
        if len(self.shapes) == 1:
            return [self.shapes[0].as_it_was(rows)]
        parts = rows.split([math.prod(s.dims) for s in self.shapes], dim=1)
        return [s.as_it_was(p.reshape(len(rows), -1)) for s, p in zip(self.shapes, parts, strict=True)]
