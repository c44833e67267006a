"""Cutting any network: both halves run the network's own code, each with ghosts where the other half is.

Transformers whatever their blocks are given besides tokens, networks of several branches, heads of two parts. What crosses the cut is
found by looking: the inputs of modules above it that come out right in a network whose trained modules give NaN.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.pretrained import Backbone
from study.networks.replay import Below, End, Feed, Ghost, Keep, Place, Shape, Start, Tape, haunt, leaves, rebuild
from study.networks.split import Split, Uncut, near

Look = Callable[[str, Any], None]

FAILURES = (RuntimeError, TypeError, AttributeError, ValueError, IndexError, KeyError, NotImplementedError, AssertionError)
"""What a network's code may raise when it meets ghosts."""

TRIES = 12
"""Pairs of halves built to find out what need not cross a cut: halving from the earliest, so the first few tell most."""

EVERY_TENSOR = "*"
"""Among what both halves use: all tensors below the cut, for code that looks into modules instead of calling them."""


def cut_replay(backbone: Backbone, cut: int) -> Split | None:
    """Raises Uncut with the reason."""
    model, below = backbone.model, {slot.name for slot in backbone.slots if slot.stage > cut}
    training = model.training
    try:
        halves = _halves(model.eval(), below, torch.randn(2, *backbone.input_size).contiguous(memory_format=torch.channels_last))
    except FAILURES as error:
        raise Uncut(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}") from None
    finally:
        model.train(training)
    return Split(*halves, cut=cut, slots=backbone.slots, arguments=backbone.arguments, how="replay")


@dataclass(frozen=True)
class _Sides:
    """A network's modules by side of the cut: the outermost that are called and whose parameters lie on one side."""

    below: tuple[str, ...]
    above: tuple[str, ...]
    loose_below: tuple[str, ...]  # parameters used by code of a module that is on both sides
    loose_above: tuple[str, ...]


@torch.no_grad()
def _halves(model: nn.Module, names: set[str], images: Tensor) -> tuple[nn.Module, nn.Module]:
    once = _heard_once(model, images[:1])
    sides = _sides(model, names, set(once[0]))
    heard = _listen(model, [*sides.below, *sides.above], once, images)

    probe = _frozen(model, sides, heard, Tape())  # nothing crosses yet: what comes out right does not depend on what is trained
    inputs, outputs = _pure(probe, sides, heard, images)
    mixed = {path for path, _, _ in heard.values.keys() - outputs.keys()}  # called above too, or the same for any image
    late = frozenset((*(path for path in sides.below if path in mixed), *sides.loose_below))
    failure: Exception = RuntimeError("nothing that crosses this cut is an image's own")
    for kept in (frozenset[str](), late, late | {EVERY_TENSOR}):
        for crossing in (inputs, {**inputs, **outputs}):
            if not crossing or (crossing is not inputs and not (kept or not late)):
                continue
            try:
                if crossing is not inputs:
                    crossing = _needed(model, sides, heard, kept, crossing, outputs, images)
                frozen, trained = _build(model, sides, heard, kept, crossing)
                if near(trained(frozen(images)), heard.logits):
                    return frozen, trained
            except FAILURES as error:
                failure = error
    raise failure


def _needed(
    model: nn.Module,
    sides: "_Sides",
    heard: "_Heard",
    kept: frozenset[str],
    crossing: dict[Place, int],
    outputs: dict[Place, int],
    images: Tensor,
) -> dict[Place, int]:
    """`crossing` without those of `outputs` that the trained half does well without, as far as `TRIES` tell. Raises RuntimeError where
    even all do not serve."""
    tries = 0

    def right(some: dict[Place, int]) -> bool:
        frozen, trained = _build(model, sides, heard, kept, some)
        return near(trained(frozen(images)), heard.logits)

    def without(some: dict[Place, int], block: list[Place]) -> dict[Place, int]:
        nonlocal tries
        tries += 1
        fewer = {place: number for place, number in some.items() if place not in block}
        if fewer and right(fewer):
            return fewer
        if len(block) == 1 or tries >= TRIES:
            return some
        half = len(block) // 2
        return without(without(some, block[:half]), block[half:])

    if not right(crossing):
        raise RuntimeError("what is trained needs more of what is frozen than its modules' inputs and outputs")
    return without(crossing, list(outputs))


# ---- looking at the whole network ----------------------------------------------------------------


def _heard_once(model: nn.Module, images: Tensor) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Shapes of what every module is given and gives, by path and call, as nests; modules that are never called are not in them."""
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with _hooked(
        model,
        [path for path, _ in model.named_modules()],
        lambda path, value: inputs[path].append(rebuild(value, _size)),
        lambda path, value: outputs[path].append(rebuild(value, _size)),
    ):
        model(images)
    return inputs, outputs


def _sides(model: nn.Module, names: set[str], called: set[str]) -> _Sides:
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
    return _Sides(*(tuple(found[k]) for k in ("below", "above", "loose_below", "loose_above")))


def _wraps(module: nn.Module) -> bool:
    """Whether it only surrounds one module: what crosses is better taken behind the pooling of a head than before it."""
    inner = [child for child in module.children() if next(child.parameters(), None) is not None]
    return len(inner) == 1 and next(module.parameters(recurse=False), None) is None


@dataclass(frozen=True)
class _Heard:
    """What the modules of both sides were given and gave, by call, as nests of Shape."""

    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    values: dict[Place, Tensor]  # outputs of two images, to compare with
    given: dict[Place, Tensor]  # inputs of two images
    logits: Tensor
    image: tuple[int, ...]


def _listen(model: nn.Module, paths: list[str], once: Any, images: Tensor) -> _Heard:
    """A pass with two images; `once` is what `_heard_once` gave with one."""
    inputs: dict[str, list[Any]] = defaultdict(list)
    outputs: dict[str, list[Any]] = defaultdict(list)
    with _hooked(
        model,
        paths,
        lambda path, value: inputs[path].append(_copied(value)),
        lambda path, value: outputs[path].append(_copied(value)),
    ):
        logits = model(images)
    return _Heard(
        inputs={p: _shapes(once[0][p], inputs[p]) for p in paths},
        outputs={p: _shapes(once[1][p], outputs[p]) for p in paths},
        values=_placed(outputs),
        given=_placed(inputs),
        logits=logits,
        image=tuple(images.shape[1:]),
    )


@contextmanager
def _hooked(model: nn.Module, paths: Sequence[str], before: Look, after: Look) -> Iterator[None]:
    """While it lasts, `before` is told (path, what it is given) of each call of a module in `paths`, and `after` what it gave."""
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
    """What a module is given may be changed in place later."""
    return rebuild(value, Tensor.clone)


def _shapes(one: list[Any], two: list[Any]) -> list[Any]:
    """Nests of Shape, from what was seen with one image (nests of _Size) and with two (nests of Tensor)."""
    sizes: list[_Size] = []
    rebuild(one, sizes.append, _Size)
    remaining = iter(sizes)
    shapes: list[Any] = rebuild(two, lambda tensor: Shape.of(next(remaining).dims, tensor))
    return shapes


def _placed(calls: dict[str, list[Any]]) -> dict[Place, Tensor]:
    return {(p, call, k): t for p, values in calls.items() for call, value in enumerate(values) for k, t in enumerate(leaves(value))}


# ---- the halves ----------------------------------------------------------------------------------


def _twin(model: nn.Module) -> nn.Module:
    """The same modules once more around the same tensors: each ends in one half alone, or frozen in both."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _frozen(model: nn.Module, sides: _Sides, heard: _Heard, tape: Tape, keeping: frozenset[str] = frozenset()) -> Below:
    frozen = _twin(model)
    for path in sides.above:
        haunt(frozen.get_submodule(path), Ghost(path, heard.outputs[path], tape, above=True))
    for name in sides.loose_above:
        _put(frozen, name, torch.full_like(model.get_parameter(name), torch.nan))
    for path in keeping:
        frozen.get_submodule(path).register_forward_hook(Keep(path, tape))
    return Below(frozen, tape)


def _pure(probe: Below, sides: _Sides, heard: _Heard, images: Tensor) -> tuple[dict[Place, int], dict[Place, int]]:
    """Inputs of modules above, and outputs of modules below, that do not depend on what is trained, with one number for one tensor."""
    alive: list[Any] = []  # so that no two tensors have one address
    numbers: dict[Any, int] = {}
    shape_at = (_shape_places(heard.inputs), _shape_places(heard.outputs))
    found: tuple[dict[Place, int], dict[Place, int]] = ({}, {})
    calls: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def look(which: int, path: str, value: Any) -> None:
        call = calls[which][path]
        calls[which][path] += 1
        for number, tensor in enumerate(leaves(value)):
            place = (path, call, number)
            shape = shape_at[which].get(place)
            if shape and shape.floating and shape.axis is not None and near(tensor, (heard.given, heard.values)[which][place]):
                alive.append(tensor)
                found[which][place] = numbers.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), len(numbers))

    above, below = set(sides.above), set(sides.below)
    probe.tape.rewind(images, [])
    with _hooked(
        probe.model,
        [*above, *below],
        lambda path, value: look(0, path, value) if path in above else None,
        lambda path, value: look(1, path, value) if path in below else None,
    ):
        probe.model(images)
    return found


def _shape_places(shapes: dict[str, list[Any]]) -> dict[Place, Shape]:
    found: dict[Place, Shape] = {}
    for path, calls in shapes.items():
        for call, value in enumerate(calls):
            here: list[Shape] = []
            rebuild(value, here.append, Shape)
            found |= {(path, call, k): shape for k, shape in enumerate(here)}
    return found


def _build(model: nn.Module, sides: _Sides, heard: _Heard, kept: frozenset[str], crossing: dict[Place, int]) -> tuple[Below, nn.Module]:
    """Both halves; modules and parameters in `kept` are used by both, around the same tensors."""
    order = {number: k for k, number in enumerate(dict.fromkeys(crossing.values()))}
    shape_at = {**_shape_places({p: heard.inputs[p] for p in sides.above}), **_shape_places({p: heard.outputs[p] for p in sides.below})}
    shapes = {order[number]: shape_at[place] for place, number in crossing.items()}
    places = {place: order[number] for place, number in crossing.items()}
    down, up = (Tape(places, tuple(shapes[k] for k in range(len(shapes)))) for _ in range(2))
    frozen = _frozen(model, sides, heard, down, frozenset(p for p, _, _ in crossing if p in sides.below))
    trained = _twin(model)
    shared = [trained] if EVERY_TENSOR in kept else [trained.get_submodule(path) for path in sides.below if path in kept]
    spared = {id(t) for module in shared for t in (*module.parameters(), *module.buffers())}
    for path in sides.below:
        if path not in kept:
            haunt(trained.get_submodule(path), Ghost(path, heard.outputs[path], up, above=False), spared)
    for name in sides.loose_below:
        if name not in kept:
            _put(trained, name, torch.full_like(model.get_parameter(name), torch.nan))
    for path in sides.above:
        trained.get_submodule(path).register_forward_pre_hook(Feed(path, up), with_kwargs=True)
    trained.register_forward_pre_hook(Start(up, heard.image))
    trained.register_forward_hook(End(up))
    return frozen, trained


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    """In a parameter's place a tensor that is none: it belongs to no state dict but moves with the module."""
    parent, _, own = name.rpartition(".")
    module = model.get_submodule(parent)
    delattr(module, own)
    module.register_buffer(own, value, persistent=False)
