"""Cutting of any network by replaying its own code in both halves, each with placeholders for the modules of the other half.

It serves transformers whatever their blocks are given besides tokens, networks of several branches, and heads of two parts. The tensors
that cross the cut are found by trying. Candidates are the tensors that come out right in a network whose trained modules return NaN: they
cannot depend on what is trained. docs/networks.md shows it on a network of four modules.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.cutting.build_halves import EVERY_TENSOR, Positions, build_halves, frozen_half
from study.networks.cutting.crossing_tensors import Crossing
from study.networks.cutting.halves import Split, Uncut, near
from study.networks.cutting.nests import Position, leaves
from study.networks.cutting.placeholders import FrozenHalf
from study.networks.cutting.trace import Sides, Trace, shapes_by_position, sides_of, trace, trace_shapes, watched
from study.networks.pretrained import Backbone

FAILURES = (RuntimeError, TypeError, AttributeError, ValueError, IndexError, KeyError, NotImplementedError, AssertionError)
"""Errors that a network's code may raise when it meets placeholders."""

TRIES = 12
"""Limit of the pairs of halves built to find out what need not cross a cut. Halving tries the earliest first: the first few tell most."""


def cut_replay(backbone: Backbone, cut: int) -> Split | None:
    """Cut below stage `cut`. Raises Uncut with the reason where no pair of halves reproduces the network."""
    model, below = backbone.model, {slot.name for slot in backbone.slots if slot.stage > cut}
    training = model.training
    try:
        halves = cut_in_two(model.eval(), below, torch.randn(2, *backbone.input_size).contiguous(memory_format=torch.channels_last))
    except FAILURES as error:
        raise Uncut(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}") from None
    finally:
        model.train(training)
    return Split(*halves, cut=cut, slots=backbone.slots, arguments=backbone.arguments, how="replay")


@torch.no_grad()
def cut_in_two(model: nn.Module, below: set[str], images: Tensor) -> tuple[FrozenHalf, nn.Module]:
    """Return (frozen half, trained half) with `trained(frozen(x))` equal to `model(x)`.

    `below` names the parameters below the cut. `images` are two images to try it on, and the model is in eval mode. Raises one of FAILURES
    where no pair of halves reproduces the network.
    """
    once = trace_shapes(model, images[:1])
    sides = sides_of(model, below, set(once[0]))
    seen = trace(model, [*sides.below, *sides.above], once, images)
    inputs, outputs = _independent(model, sides, seen, images)
    failure: Exception = RuntimeError("nothing that crosses this cut is an image's own")
    for shared, with_outputs in _attempts(sides, seen, outputs):
        positions = {**inputs, **outputs} if with_outputs else inputs
        if not positions:
            continue
        try:
            if with_outputs:
                positions = _needed(model, sides, seen, shared, positions, outputs, images)
            frozen, trained = build_halves(model, sides, seen, shared, positions)
            if near(trained(frozen(images)), seen.logits):
                return frozen, trained
        except FAILURES as error:
            failure = error
    raise failure


def _attempts(sides: Sides, seen: Trace, outputs: Positions) -> Iterator[tuple[frozenset[str], bool]]:
    """Yield what to try, the simplest first: (what both halves use, do outputs of modules below cross besides inputs of those above).

    Both halves may have to use a module below that is also called after the cut, or whose output is the same for any image.
    """
    mixed = {path for path, _, _ in seen.output_values.keys() - outputs.keys()}
    both = frozenset((*(path for path in sides.below if path in mixed), *sides.direct_below))
    yield frozenset(), False
    if both:
        yield both, False
    yield both, True
    yield both | {EVERY_TENSOR}, False
    yield both | {EVERY_TENSOR}, True


def _needed(
    model: nn.Module, sides: Sides, seen: Trace, shared: frozenset[str], positions: Positions, outputs: Positions, images: Tensor
) -> Positions:
    """Return `positions` without those of `outputs` that the trained half can do without, as far as `TRIES` tell.

    Raises RuntimeError where even all of them are not enough.
    """
    tries = 0

    def right(some: Positions) -> bool:
        frozen, trained = build_halves(model, sides, seen, shared, some)
        return near(trained(frozen(images)), seen.logits)

    def without(some: Positions, block: list[Position]) -> Positions:
        nonlocal tries
        tries += 1
        fewer = {position: number for position, number in some.items() if position not in block}
        if fewer and right(fewer):
            return fewer
        if len(block) == 1 or tries >= TRIES:
            return some
        half = len(block) // 2
        return without(without(some, block[:half]), block[half:])

    if not right(positions):
        raise RuntimeError("what is trained needs more of what is frozen than its modules' inputs and outputs")
    return without(positions, list(outputs))


def _independent(model: nn.Module, sides: Sides, seen: Trace, images: Tensor) -> tuple[Positions, Positions]:
    """Return the inputs of modules above, and the outputs of modules below, that do not depend on what is trained.

    They are the tensors that come out right although every module above the cut returns NaN.
    """
    probe = frozen_half(model, sides, seen, Crossing())  # nothing crosses yet
    alive: list[Any] = []  # so that no two tensors have one address
    numbers: dict[Any, int] = {}
    shapes = (shapes_by_position(seen.input_shapes), shapes_by_position(seen.output_shapes))
    values = (seen.input_values, seen.output_values)
    found: tuple[Positions, Positions] = ({}, {})
    calls: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def look(which: int, path: str, value: Any) -> None:
        call = calls[which][path]
        calls[which][path] += 1
        for number, tensor in enumerate(leaves(value)):
            position = (path, call, number)
            shape = shapes[which].get(position)
            if shape and shape.floating and shape.axis is not None and near(tensor, values[which][position]):
                alive.append(tensor)
                found[which][position] = numbers.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), len(numbers))

    above, below = set(sides.above), set(sides.below)
    probe.crossing.begin(images, [])
    with watched(
        probe.model,
        [*above, *below],
        lambda path, value: look(0, path, value) if path in above else None,
        lambda path, value: look(1, path, value) if path in below else None,
    ):
        probe.model(images)
    return found
