"""The trace of a whole network's run: the modules that are called, their side of a cut, their inputs and outputs."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from study.networks.cutting.placeholders import Place, Shape, leaves, rebuild

Look = Callable[[str, Any], None]


@dataclass(frozen=True)
class Sides:
    """A network's modules by side of the cut: the outermost that are called and whose parameters lie on one side."""

    below: tuple[str, ...]
    above: tuple[str, ...]
    loose_below: tuple[str, ...]  # parameters used by code of a module that is on both sides
    loose_above: tuple[str, ...]


def listen_once(model: nn.Module, images: Tensor) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the shapes of every module's inputs and outputs, by path and call, as nests, without modules that are never called."""
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with hooked(
        model,
        [path for path, _ in model.named_modules()],
        lambda path, value: inputs[path].append(rebuild(value, _size)),
        lambda path, value: outputs[path].append(rebuild(value, _size)),
    ):
        model(images)
    return inputs, outputs


def sides_of(model: nn.Module, names: set[str], called: set[str]) -> Sides:
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
            found["loose_below" if id(parameter) in below_ids else "loose_above"].append(f"{path}.{name}".lstrip("."))
        for name, child in module.named_children():
            visit(f"{path}.{name}".lstrip("."), child)

    visit("", model)
    return Sides(*(tuple(found[k]) for k in ("below", "above", "loose_below", "loose_above")))


def _wraps(module: nn.Module) -> bool:
    """Return True where the module only wraps another one: it is better to cut behind the pooling of a head than before it."""
    inner = [child for child in module.children() if next(child.parameters(), None) is not None]
    return len(inner) == 1 and next(module.parameters(recurse=False), None) is None


@dataclass(frozen=True)
class Heard:
    """Inputs and outputs of the modules of both sides, by call, as nests of Shape."""

    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    values: dict[Place, Tensor]  # outputs of two images, to compare with
    given: dict[Place, Tensor]  # inputs of two images
    logits: Tensor
    image: tuple[int, ...]


def listen(model: nn.Module, paths: list[str], once: Any, images: Tensor) -> Heard:
    """Return the trace of a pass with two images; `once` is the result of `listen_once` with one."""
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with hooked(
        model,
        paths,
        lambda path, value: inputs[path].append(_copied(value)),
        lambda path, value: outputs[path].append(_copied(value)),
    ):
        logits = model(images)
    return Heard(
        inputs={p: _shapes(once[0][p], inputs[p]) for p in paths},
        outputs={p: _shapes(once[1][p], outputs[p]) for p in paths},
        values=placed(outputs),
        given=placed(inputs),
        logits=logits,
        image=tuple(images.shape[1:]),
    )


@contextmanager
def hooked(model: nn.Module, paths: Sequence[str], before: Look, after: Look) -> Iterator[None]:
    """Call `before` with (path, inputs) of each call of a module in `paths`, and `after` with its outputs, inside the block."""
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
    """A tensor's shape, in a nest: torch's own is a tuple and would be taken for a part of it."""

    dims: tuple[int, ...]


def _size(tensor: Tensor) -> _Size:
    return _Size(tuple(tensor.shape))


def _copied(value: Any) -> Any:
    """Return a copy of a module's input, which may be changed in place later."""
    return rebuild(value, Tensor.clone)


def _shapes(one: list[Any], two: list[Any]) -> list[Any]:
    """Return nests of Shape, from the results with one image (nests of _Size) and with two (nests of Tensor)."""
    sizes: list[_Size] = []
    rebuild(one, sizes.append, _Size)
    remaining = iter(sizes)
    shapes: list[Any] = rebuild(two, lambda tensor: Shape.of(next(remaining).dims, tensor))
    return shapes


def placed(calls: dict[str, list[Any]]) -> dict[Place, Tensor]:
    return {(p, call, k): t for p, values in calls.items() for call, value in enumerate(values) for k, t in enumerate(leaves(value))}


def shape_places(shapes: dict[str, list[Any]]) -> dict[Place, Shape]:
    found: dict[Place, Shape] = {}
    for path, calls in shapes.items():
        for call, value in enumerate(calls):
            here: list[Shape] = []
            rebuild(value, here.append, Shape)
            found |= {(path, call, k): shape for k, shape in enumerate(here)}
    return found
