"""The cut of any network: both halves run the network's own code, each with ghosts in place of the other half.

It serves transformers whose blocks take more than tokens, networks of several branches, heads of two parts. A search finds the tensors
that cross the cut: inputs of modules above it that come out right in a network whose trained modules give NaN.
"""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.cutting.halves import Split, Uncut, near
from study.networks.cutting.placeholders import Below, End, Feed, Ghost, Keep, Place, Start, Tape, haunt, leaves
from study.networks.cutting.trace import Heard, Sides, hooked, listen, listen_once, shape_places, sides_of
from study.networks.pretrained import Backbone

FAILURES = (RuntimeError, TypeError, AttributeError, ValueError, IndexError, KeyError, NotImplementedError, AssertionError)
"""Errors that a network's code may raise when it meets ghosts."""

TRIES = 12
"""Pairs of halves built to find out which tensors need not cross a cut: halving from the earliest, so the first few tell most."""

EVERY_TENSOR = "*"
"""A mark among the names that both halves use: all tensors below the cut, for code that looks into modules instead of calling them."""


def cut_replay(backbone: Backbone, cut: int) -> Split | None:
    """Cut the network. Raises Uncut with the reason."""
    model, below = backbone.model, {slot.name for slot in backbone.slots if slot.stage > cut}
    training = model.training
    try:
        halves = _halves(model.eval(), below, torch.randn(2, *backbone.input_size).contiguous(memory_format=torch.channels_last))
    except FAILURES as error:
        raise Uncut(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}") from None
    finally:
        model.train(training)
    return Split(*halves, cut=cut, slots=backbone.slots, arguments=backbone.arguments, how="replay")


@torch.no_grad()
def _halves(model: nn.Module, names: set[str], images: Tensor) -> tuple[nn.Module, nn.Module]:
    once = listen_once(model, images[:1])
    sides = sides_of(model, names, set(once[0]))
    heard = listen(model, [*sides.below, *sides.above], once, images)

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
    sides: Sides,
    heard: Heard,
    kept: frozenset[str],
    crossing: dict[Place, int],
    outputs: dict[Place, int],
    images: Tensor,
) -> dict[Place, int]:
    """Return `crossing` without those of `outputs` that the trained half does not need, as far as `TRIES` tell.

    Raises RuntimeError where even all of them do not suffice.
    """
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


# ---- the halves ----------------------------------------------------------------------------------


def _twin(model: nn.Module) -> nn.Module:
    """Return the same modules once more around the same tensors: each ends in one half alone, or frozen in both."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _frozen(model: nn.Module, sides: Sides, heard: Heard, tape: Tape, keeping: frozenset[str] = frozenset()) -> Below:
    frozen = _twin(model)
    for path in sides.above:
        haunt(frozen.get_submodule(path), Ghost(path, heard.outputs[path], tape, above=True))
    for name in sides.loose_above:
        _put(frozen, name, torch.full_like(model.get_parameter(name), torch.nan))
    for path in keeping:
        frozen.get_submodule(path).register_forward_hook(Keep(path, tape))
    return Below(frozen, tape)


def _pure(probe: Below, sides: Sides, heard: Heard, images: Tensor) -> tuple[dict[Place, int], dict[Place, int]]:
    """Return inputs of modules above, and outputs of modules below, that do not depend on trained parameters, with one number for each
    tensor."""
    alive: list[Any] = []  # so that no two tensors have one address
    numbers: dict[Any, int] = {}
    shape_at = (shape_places(heard.inputs), shape_places(heard.outputs))
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
    with hooked(
        probe.model,
        [*above, *below],
        lambda path, value: look(0, path, value) if path in above else None,
        lambda path, value: look(1, path, value) if path in below else None,
    ):
        probe.model(images)
    return found


def _build(model: nn.Module, sides: Sides, heard: Heard, kept: frozenset[str], crossing: dict[Place, int]) -> tuple[Below, nn.Module]:
    """Return both halves; modules and parameters in `kept` are used by both, around the same tensors."""
    order = {number: k for k, number in enumerate(dict.fromkeys(crossing.values()))}
    shape_at = {**shape_places({p: heard.inputs[p] for p in sides.above}), **shape_places({p: heard.outputs[p] for p in sides.below})}
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
    """Put a tensor in a parameter's place: it is in no state dict but moves with the module."""
    parent, _, own = name.rpartition(".")
    module = model.get_submodule(parent)
    delattr(module, own)
    module.register_buffer(own, value, persistent=False)
