"""Parts of a cut network whose own code runs on both sides: ghosts of the other half, and a tape of the tensors that cross the cut.

A ghost takes the place of a module that belongs to the other half. It gives NaN in the shapes of that module's outputs, so anything that
wrongly depends on it shows at once. All parts pickle and copy with the network that holds them.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[str, int, int]
"""The place of a tensor: the module's path, the number of its call in one forward pass, the number of the tensor in that call."""


def leaves(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)


def rebuild(value: Any, new: Callable[[Any], Any], leaf: type = Tensor) -> Any:
    """Return the same nest with `new` of every `leaf`, called in the order of `leaves`."""
    if isinstance(value, leaf):
        return new(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(rebuild(item, new, leaf) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(rebuild(item, new, leaf) for item in value)
    if isinstance(value, dict):
        return {key: rebuild(item, new, leaf) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Shape:
    """A tensor's shape for any number of images: `dims[k]` of one image; `axis` is the dimension that grows with their number."""

    dims: tuple[int, ...]
    axis: int | None  # None: the same for any number of images
    floating: bool
    contiguous: bool

    @classmethod
    def of(cls, one: tuple[int, ...], two: Tensor) -> "Shape":
        """Return the shape from the one seen with one image and the tensor with two. Raises ValueError where they follow no rule."""
        grown = [k for k, (a, b) in enumerate(zip(one, two.shape, strict=True)) if a != b]
        if len(grown) > 1 or any(two.shape[k] != 2 * one[k] for k in grown):
            raise ValueError(f"a tensor of {one} for one image is {tuple(two.shape)} for two")
        return cls(one, grown[0] if grown else None, two.is_floating_point(), two.is_contiguous())

    def sized(self, images: int) -> tuple[int, ...]:
        return tuple(images * n if k == self.axis else n for k, n in enumerate(self.dims))

    def ghost(self, like: Tensor, images: int) -> Tensor:
        if not self.floating:
            return torch.zeros(self.sized(images), dtype=torch.long, device=like.device)
        return torch.full(self.sized(images), math.nan, device=like.device)

    def by_image(self, tensor: Tensor, images: int) -> Tensor:
        """Return [images, ...], one row for each image."""
        assert self.axis is not None
        rows = tensor.movedim(self.axis, 0)
        return rows if len(rows) == images else rows.reshape(images, -1, *rows.shape[1:])

    def as_it_was(self, rows: Tensor) -> Tensor:
        """Return the tensor that `by_image` was given, in the memory layout that the network expects."""
        assert self.axis is not None
        images, rest = len(rows), tuple(n for k, n in enumerate(self.dims) if k != self.axis)
        tensor = rows.reshape(images * self.dims[self.axis], *rest).movedim(0, self.axis)
        return tensor.contiguous() if self.contiguous else tensor


@dataclass
class Tape:
    """The record of one forward pass of one half: how often each module was called so far, and the tensors that cross the cut."""

    places: dict[Place, int] = field(default_factory=dict)  # -> which of `shapes` is there: one tensor may be seen in several places
    shapes: tuple[Shape, ...] = ()
    images: int = 0
    like: Tensor = field(default_factory=lambda: torch.zeros(()))
    crossing: list[Tensor | None] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def rewind(self, like: Tensor, crossing: list[Tensor | None]) -> None:
        self.images, self.like, self.crossing, self.calls = len(like), like, crossing, Counter()

    def blank(self) -> None:
        """Release the tensors of the last pass."""
        self.like, self.crossing = torch.zeros(()), []

    def call(self, path: str) -> int:
        self.calls[path] += 1
        return self.calls[path] - 1

    def write(self, path: str, call: int, value: Any) -> None:
        """Keep the tensors of `value` that cross the cut."""
        for number, tensor in enumerate(leaves(value)):
            if (index := self.places.get((path, call, number))) is not None and self.crossing[index] is None:
                self.crossing[index] = tensor.clone()  # the network's own code may change it in place

    def read(self, path: str, call: int, value: Any) -> Any:
        """Return `value` with the tensors that crossed the cut in their places."""
        numbers = iter(range(10**9))

        def one(tensor: Tensor) -> Tensor:
            index = self.places.get((path, call, next(numbers)))
            found = tensor if index is None else self.crossing[index]
            assert found is not None
            return found

        return rebuild(value, one)

    def pack(self) -> Tensor:
        """Return one tensor [images, ...] of everything that crosses the cut."""
        rows = [s.by_image(t, self.images) for s, t in zip(self.shapes, self.crossing, strict=True) if t is not None]
        if len(rows) < len(self.shapes):
            raise RuntimeError("a tensor that crosses the cut was never seen")
        return rows[0] if len(rows) == 1 else torch.cat([r.reshape(self.images, -1).float() for r in rows], dim=1)

    def unpack(self, rows: Tensor) -> list[Tensor | None]:
        if len(self.shapes) == 1:
            return [self.shapes[0].as_it_was(rows)]
        parts = rows.split([math.prod(s.dims) for s in self.shapes], dim=1)
        return [s.as_it_was(p.reshape(len(rows), -1)) for s, p in zip(self.shapes, parts, strict=True)]


@dataclass(eq=False)
class Ghost:
    """The forward of a module of the other half, which computes nothing. Its inputs or outputs may cross the cut."""

    path: str
    outputs: list[Any]  # nests of Shape, by call
    tape: Tape
    above: bool  # its inputs cross; else its outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.tape.call(self.path)
        if self.above:
            self.tape.write(self.path, call, (args, kwargs))
        value = rebuild(self.outputs[call], lambda shape: shape.ghost(self.tape.like, self.tape.images), Shape)
        return value if self.above else self.tape.read(self.path, call, value)


@dataclass(eq=False)
class Feed:
    """A hook before a module of the trained half: it puts the tensors that cross the cut into the module's inputs."""

    path: str
    tape: Tape

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return self.tape.read(self.path, self.tape.call(self.path), (args, kwargs))


@dataclass(eq=False)
class Keep:
    """A hook after a module of the frozen half: it keeps the outputs that cross the cut."""

    path: str
    tape: Tape

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.tape.write(self.path, self.tape.call(self.path), output)


@dataclass(eq=False)
class Start:
    """A hook before the trained half: activations [N, ...] go onto the tape, and a ghost of the images starts the network's own code."""

    tape: Tape
    image: tuple[int, ...]  # channels, height, width

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (rows,) = args
        self.tape.rewind(rows, self.tape.unpack(rows))
        return (torch.full((len(rows), *self.image), math.nan, device=rows.device),)


@dataclass(eq=False)
class End:
    """A hook after the trained half."""

    tape: Tape

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.tape.blank()


class Below(nn.Module):
    """The frozen half: the network's own code with ghosts above the cut. From images it makes one tensor [N, ...] of all that crosses."""

    def __init__(self, model: nn.Module, tape: Tape) -> None:
        super().__init__()
        self.model, self.tape = model, tape
        model.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        self.tape.rewind(images, [None] * len(self.tape.shapes))
        self.model(images)
        rows = self.tape.pack()
        self.tape.blank()
        return rows

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)


def haunt(module: nn.Module, ghost: Ghost, spared: Collection[int] = ()) -> None:
    """Take every tensor out of a module and its parts, except those of the ids `spared`; the ghost answers its calls."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) not in spared:
                delattr(part, name)
                part.register_parameter(name, None)
        for name, buffer in list(part.named_buffers(recurse=False)):
            if id(buffer) not in spared:
                delattr(part, name)
                part.register_buffer(name, None)
    vars(module)["forward"] = ghost
