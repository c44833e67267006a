"""The two halves of a replayed network, built for given positions at which tensors cross the cut."""

import copy

import torch
from torch import Tensor, nn

from study.networks.cutting.crossing_tensors import Crossing
from study.networks.cutting.nests import Position
from study.networks.cutting.placeholders import (
    EndTrainedHalf,
    FrozenHalf,
    InsertInputs,
    Placeholder,
    RecordOutputs,
    StartTrainedHalf,
    replace_by,
)
from study.networks.cutting.trace import Sides, Trace, shapes_by_position

EVERY_TENSOR = "*"
"""The mark for all tensors below the cut among those that both halves use, for code that looks into modules instead of calling them."""

Positions = dict[Position, int]
"""Positions of tensors that cross the cut, or may, with one number for one tensor: it may be seen in several positions."""


def build_halves(
    model: nn.Module,
    sides: Sides,
    seen: Trace,
    shared: frozenset[str],
    positions: Positions,
) -> tuple[FrozenHalf, nn.Module]:
    """Return both halves. They both use the modules and parameters in `shared`, around the same tensors."""
    order = {number: k for k, number in enumerate(dict.fromkeys(positions.values()))}
    shape_at = {
        **shapes_by_position({p: seen.input_shapes[p] for p in sides.above}),
        **shapes_by_position({p: seen.output_shapes[p] for p in sides.below}),
    }
    shapes = {order[number]: shape_at[position] for position, number in positions.items()}
    index = {position: order[number] for position, number in positions.items()}
    recorded, inserted = (Crossing(index, tuple(shapes[k] for k in range(len(shapes)))) for _ in range(2))
    frozen = frozen_half(model, sides, seen, recorded, frozenset(p for p, _, _ in positions if p in sides.below))
    return frozen, _trained_half(model, sides, seen, inserted, shared)


def frozen_half(model: nn.Module, sides: Sides, seen: Trace, crossing: Crossing, recording: frozenset[str] = frozenset()) -> FrozenHalf:
    """Return the frozen half. The outputs of the modules in `recording` may cross the cut."""
    frozen = _twin(model)
    for path in sides.above:
        replace_by(frozen.get_submodule(path), Placeholder(path, seen.output_shapes[path], crossing, above=True))
    for name in sides.direct_above:
        _replace_parameter(frozen, name, torch.full_like(model.get_parameter(name), torch.nan))
    for path in recording:
        frozen.get_submodule(path).register_forward_hook(RecordOutputs(path, crossing))
    return FrozenHalf(frozen, crossing)


def _trained_half(model: nn.Module, sides: Sides, seen: Trace, crossing: Crossing, shared: frozenset[str]) -> nn.Module:
    """Return the trained half, which maps the activations [N, ...] to logits."""
    trained = _twin(model)
    used = [trained] if EVERY_TENSOR in shared else [trained.get_submodule(path) for path in sides.below if path in shared]
    kept = {id(t) for module in used for t in (*module.parameters(), *module.buffers())}
    for path in sides.below:
        if path not in shared:
            replace_by(trained.get_submodule(path), Placeholder(path, seen.output_shapes[path], crossing, above=False), kept)
    for name in sides.direct_below:
        if name not in shared:
            _replace_parameter(trained, name, torch.full_like(model.get_parameter(name), torch.nan))
    for path in sides.above:
        trained.get_submodule(path).register_forward_pre_hook(InsertInputs(path, crossing), with_kwargs=True)
    trained.register_forward_pre_hook(StartTrainedHalf(crossing, seen.image))
    trained.register_forward_hook(EndTrainedHalf(crossing))
    return trained


def _twin(model: nn.Module) -> nn.Module:
    """Copy the modules around the same tensors: each tensor ends in one half alone, or frozen in both."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _replace_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Put a buffer in a parameter's place. It belongs to no state dict, but moves with the module."""
    parent, _, own = name.rpartition(".")
    module = model.get_submodule(parent)
    delattr(module, own)
    module.register_buffer(own, value, persistent=False)
