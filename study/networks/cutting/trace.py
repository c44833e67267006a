"""A trace of a whole network's forward pass: the modules that are called, what they take and return, and their side of a cut."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from study.networks.cutting.nests import Position, Shape, leaves, rebuild

Watcher = Callable[[str, Any], None]
"""A function that is told (path of a module, what it takes or returns)."""


@dataclass(frozen=True)
class Sides:
    """The modules of a network by side of the cut: the outermost ones that are called and whose parameters lie on one side."""

    below: tuple[str, ...]
    above: tuple[str, ...]
    direct_below: tuple[str, ...]  # parameters that a module with parts on both sides uses itself
    direct_above: tuple[str, ...]


def trace_shapes(model: nn.Module, images: Tensor) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the shapes that every module takes and those that it returns, by path and call, as nests.

    Modules that are never called are missing.
    """
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with watched(
        model,
        [path for path, _ in model.named_modules()],
        lambda path, value: inputs[path].append(rebuild(value, _size)),
        lambda path, value: outputs[path].append(rebuild(value, _size)),
    ):
        model(images)
    return inputs, outputs


def sides_of(model: nn.Module, names: set[str], called: set[str]) -> Sides:
    """Sort the modules of a network. `names` are the parameters below the cut, `called` the paths of modules that are called."""
    found: dict[str, list[str]] = defaultdict(list)
    last, visited = "below", set[int]()
    below_ids = {id(model.get_parameter(name)) for name in names}  # a module may stand in several places, under one name only

    def visit(path: str, module: nn.Module) -> None:
        nonlocal last
        if id(module) in visited:
            return
        visited.add(id(module))
        below = {id(p) in below_ids for p in module.parameters()}
        moving = any(getattr(m, "running_mean", None) is not None for m in module.modules())
        if not below and not moving:
            return
        if len(below) < 2 and path in called and not (below == {False} and _wraps(module)):
            last = ("below" if below.pop() else "above") if below else last
            found[last].append(path)
            return
        for name, parameter in module.named_parameters(recurse=False):
            found["direct_below" if id(parameter) in below_ids else "direct_above"].append(f"{path}.{name}".lstrip("."))
        for name, child in module.named_children():
            visit(f"{path}.{name}".lstrip("."), child)

    visit("", model)
    return Sides(*(tuple(found[k]) for k in ("below", "above", "direct_below", "direct_above")))


def _wraps(module: nn.Module) -> bool:
    """Return True where it only surrounds one module. What crosses is better taken behind the pooling of a head than before it."""
    inner = [child for child in module.children() if next(child.parameters(), None) is not None]
    return len(inner) == 1 and next(module.parameters(recurse=False), None) is None


@dataclass(frozen=True)
class Trace:
    """The inputs and outputs of the modules of both sides in a pass with two images: shapes by call, as nests of Shape, and values."""

    input_shapes: dict[str, list[Any]]
    output_shapes: dict[str, list[Any]]
    input_values: dict[Position, Tensor]
    output_values: dict[Position, Tensor]
    logits: Tensor
    image: tuple[int, ...]  # channels, height, width


def trace(model: nn.Module, paths: list[str], once: Any, images: Tensor) -> Trace:
    """Trace a pass with two images. `once` is what `trace_shapes` returned for one of them.

    Raises ValueError where the shapes for one and two images follow no rule.
    """
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with watched(
        model,
        paths,
        lambda path, value: inputs[path].append(_copied(value)),
        lambda path, value: outputs[path].append(_copied(value)),
    ):
        logits = model(images)
    return Trace(
        input_shapes={p: _shapes(once[0][p], inputs[p]) for p in paths},
        output_shapes={p: _shapes(once[1][p], outputs[p]) for p in paths},
        input_values=by_position(inputs),
        output_values=by_position(outputs),
        logits=logits,
        image=tuple(images.shape[1:]),
    )


@contextmanager
def watched(model: nn.Module, paths: Sequence[str], before: Watcher, after: Watcher) -> Iterator[None]:
    """Tell `before` what each call of a module in `paths` takes, and `after` what it returns, inside the context."""
    hooks: list[Any] = []
    for path in paths:
        part = model.get_submodule(path)
        hooks.append(part.register_forward_pre_hook(lambda m, a, k, path=path: before(path, (a, k)), with_kwargs=True))
        hooks.append(part.register_forward_hook(lambda m, a, o, path=path: after(path, o)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Size:
    """A tensor's shape as one item of a nest. Torch's own is a tuple and would itself be taken for a nest."""

    dims: tuple[int, ...]


def _size(tensor: Tensor) -> _Size:
    return _Size(tuple(tensor.shape))


def _copied(value: Any) -> Any:
    """Copy the tensors of a nest, since the network's code may change them in place later."""
    return rebuild(value, Tensor.clone)


def _shapes(one: list[Any], two: list[Any]) -> list[Any]:
    """Return nests of Shape, from what was seen with one image (nests of _Size) and with two (nests of Tensor)."""
    sizes: list[_Size] = []
    rebuild(one, sizes.append, _Size)
    remaining = iter(sizes)
    shapes: list[Any] = rebuild(two, lambda tensor: Shape.of(next(remaining).dims, tensor))
    return shapes


def by_position(calls: dict[str, list[Any]]) -> dict[Position, Tensor]:
    """Return the tensors of nests, given by path and call, by their positions."""
    return {(p, call, k): t for p, values in calls.items() for call, value in enumerate(values) for k, t in enumerate(leaves(value))}


def shapes_by_position(shapes: dict[str, list[Any]]) -> dict[Position, Shape]:
    """Return the shapes of nests, given by path and call, by their positions."""
    found: dict[Position, Shape] = {}
    for path, calls in shapes.items():
        for call, value in enumerate(calls):
            here: list[Shape] = []
            rebuild(value, here.append, Shape)
            found |= {(path, call, k): shape for k, shape in enumerate(here)}
    return found
