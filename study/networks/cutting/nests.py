"""Tensors in nested values, as modules take and return them, and their shapes for any number of images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Position = tuple[str, int, int]
"""The position of a tensor in a forward pass: (path of the module, number of the call of that module, number of the tensor in that
call)."""


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
    """Return the same nest with `new(x)` in place of every x of type `leaf`, called in the order of `leaves`."""
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
    """The shape of a tensor for any number of images. `dims` is that for one image, and dimension `axis` grows with their number."""

    dims: tuple[int, ...]
    axis: int | None  # None: the same for any number of images
    floating: bool
    contiguous: bool

    @classmethod
    def of(cls, one: tuple[int, ...], two: Tensor) -> "Shape":
        """Derive it from the shape for one image and the tensor for two. Raises ValueError where they follow no rule."""
        grown = [k for k, (a, b) in enumerate(zip(one, two.shape, strict=True)) if a != b]
        if len(grown) > 1 or any(two.shape[k] != 2 * one[k] for k in grown):
            raise ValueError(f"a tensor of {one} for one image is {tuple(two.shape)} for two")
        return cls(one, grown[0] if grown else None, two.is_floating_point(), two.is_contiguous())

    def for_images(self, images: int) -> tuple[int, ...]:
        """Return the shape for this number of images."""
        return tuple(images * n if k == self.axis else n for k, n in enumerate(self.dims))

    def by_image(self, tensor: Tensor, images: int) -> Tensor:
        """Return the tensor as [images, ...], one row per image."""
        assert self.axis is not None
        rows = tensor.movedim(self.axis, 0)
        return rows if len(rows) == images else rows.reshape(images, -1, *rows.shape[1:])

    def as_it_was(self, rows: Tensor) -> Tensor:
        """Undo `by_image`, and restore the memory layout that the network expects."""
        assert self.axis is not None
        images, rest = len(rows), tuple(n for k, n in enumerate(self.dims) if k != self.axis)
        tensor = rows.reshape(images * self.dims[self.axis], *rest).movedim(0, self.axis)
        return tensor.contiguous() if self.contiguous else tensor
