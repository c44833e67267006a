"""Cutting of a network below the deepest stage that is trained, by the first way that reproduces the whole network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from study.networks.cutting.chain import cut_chain
from study.networks.cutting.halves import Split, Uncut, near
from study.networks.cutting.head import cut_head
from study.networks.cutting.replaying import cut_replay
from study.networks.pretrained import Backbone
from study.networks.timm_model import as_timm

CUTTERS: tuple[Callable[[Backbone, int], Split | None], ...] = (cut_head, cut_chain, cut_replay)
"""The ways to cut, in turn. Each returns the two halves, or None where it does not know how. They are checked on random input."""


def split(backbone: Backbone, cut: int) -> Split:
    """Cut `backbone.model` below stage `cut` (0 = below the head), and take the model over.

    A network that no way can cut stays whole, which is correct but slower. `Split.why_whole` then gives the reason.
    """
    model = backbone.model
    below = {slot.name for slot in backbone.slots if slot.stage > cut}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in below)
    why = ""
    if below:
        for cutter in CUTTERS:
            try:
                halves = cutter(backbone, cut)
            except Uncut as reason:
                why = str(reason)
                continue
            if halves is not None and _equal(halves, model, backbone.input_size):
                return halves
        why = why or "the two halves did not reproduce the whole"
    return Split(None, model, cut=cut, slots=backbone.slots, arguments=backbone.arguments, why_whole=why)


@torch.no_grad()
def _equal(halves: Split, model: nn.Module, size: tuple[int, int, int]) -> bool:
    settings = as_timm(model).default_cfg
    if halves.how == "replay" or settings.get("fixed_input_size"):
        probe = torch.randn(2, *size)
    else:
        channels, *sides = settings.get("input_size", size)
        probe = torch.randn(2, channels, *(min(side, 96) for side in sides))
    training = model.training
    model.eval(), halves.eval()
    try:
        rows = halves.activations(probe)
        if not near(halves.activations(probe[1:]), rows[1:]):
            return False  # an image's activations must be its own: they are stored, and met again in other company
        return near(halves.trained(_as_stored(rows)), model(probe))
    except Exception:  # halves that do not fit each other may fail in any way
        return False
    finally:
        model.train(training)


def _as_stored(rows: Tensor) -> Tensor:
    """Return the rows in the memory layout of the activation store: four dimensions come back as channels-last images."""
    return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows
