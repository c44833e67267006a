"""Placeholders for the modules of the other half, and the hooks through which tensors cross the cut.

A placeholder computes nothing. It returns NaN in the shapes that its module would return, so whatever wrongly depends on that module shows
at once. Placeholders and hooks can be pickled and copied with the network that they sit in.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.cutting.crossing_tensors import Crossing
from study.networks.cutting.nests import Shape, rebuild


@dataclass(eq=False)
class Placeholder:
    """The forward of a module that belongs to the other half. It records its inputs, or inserts its outputs, where they cross the cut."""

    path: str
    outputs: list[Any]  # nests of Shape, by call
    crossing: Crossing
    above: bool  # it stands in the frozen half, and its inputs cross; else in the trained half, and its outputs cross

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.crossing.next_call(self.path)
        if self.above:
            self.crossing.record(self.path, call, (args, kwargs))
        value = rebuild(self.outputs[call], self._nothing, Shape)
        return value if self.above else self.crossing.insert(self.path, call, value)

    def _nothing(self, shape: Shape) -> Tensor:
        """Return NaN of this shape, or zeros where the tensor holds integers."""
        size, device = shape.for_images(self.crossing.images), self.crossing.like.device
        return torch.full(size, math.nan, device=device) if shape.floating else torch.zeros(size, dtype=torch.long, device=device)


def replace_by(module: nn.Module, placeholder: Placeholder, kept: Collection[int] = ()) -> None:
    """Let the placeholder answer the calls of a module, and take every tensor out of it except those whose id is in `kept`."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) not in kept:
                delattr(part, name)
                part.register_parameter(name, None)
        for name, buffer in list(part.named_buffers(recurse=False)):
            if id(buffer) not in kept:
                delattr(part, name)
                part.register_buffer(name, None)
    vars(module)["forward"] = placeholder


# ---- the frozen half -----------------------------------------------------------------------------


class FrozenHalf(nn.Module):
    """The network's own code with placeholders above the cut. It maps images to one tensor [N, ...] of what crosses the cut."""

    def __init__(self, model: nn.Module, crossing: Crossing) -> None:
        super().__init__()
        self.model, self.crossing = model, crossing
        model.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        self.crossing.begin(images, [None] * len(self.crossing.shapes))
        self.model(images)
        rows = self.crossing.pack()
        self.crossing.release()
        return rows

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)


@dataclass(eq=False)
class RecordOutputs:
    """A hook after a module of the frozen half: it records those of its outputs that cross the cut."""

    path: str
    crossing: Crossing

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.crossing.record(self.path, self.crossing.next_call(self.path), output)


# ---- the trained half ----------------------------------------------------------------------------


@dataclass(eq=False)
class StartTrainedHalf:
    """A hook before the trained half: it unpacks the activations [N, ...], and passes images of NaN on to the network's own code."""

    crossing: Crossing
    image: tuple[int, ...]  # channels, height, width

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (rows,) = args
        self.crossing.begin(rows, self.crossing.unpack(rows))
        return (torch.full((len(rows), *self.image), math.nan, device=rows.device),)


@dataclass(eq=False)
class InsertInputs:
    """A hook before a module of the trained half: it inserts what crosses the cut into the module's inputs."""

    path: str
    crossing: Crossing

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return self.crossing.insert(self.path, self.crossing.next_call(self.path), (args, kwargs))


@dataclass(eq=False)
class EndTrainedHalf:
    """A hook after the trained half: it releases the activations."""

    crossing: Crossing

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.crossing.release()
