"""Where a network is cut: below the deepest stage that is trained, by the first way that reproduces the whole network."""

from collections.abc import Callable

import torch
from torch import nn

from study.networks.cut_chain import cut_chain
from study.networks.cut_head import cut_head
from study.networks.pretrained import Backbone
from study.networks.split import Split
from study.networks.timm_model import as_timm

CUTTERS: tuple[Callable[[Backbone, int], Split | None], ...] = (cut_head, cut_chain)
"""Each gives the two halves for a cut, or None where it does not know how; what it gives is checked on random input."""

TOLERANCE = 1e-4  # relative; the two halves must reproduce the whole network


def split(backbone: Backbone, cut: int) -> Split:
    """Cuts `backbone.model` below stage `cut` (0 = below the head). Takes the model over.

    A network that nobody knows how to cut stays whole: correct, only slower.
    """
    model = backbone.model
    below = {slot.name for slot in backbone.slots if slot.stage > cut}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in below)
    if below:
        for cutter in CUTTERS:
            halves = cutter(backbone, cut)
            if halves is not None and _equal(halves, model):
                return halves
    return Split(None, model, cut=cut, slots=backbone.slots, arguments=backbone.arguments)


@torch.no_grad()
def _equal(halves: Split, model: nn.Module) -> bool:
    settings = as_timm(model).default_cfg
    channels, *sides = settings.get("input_size", (3, 224, 224))
    probe = torch.randn(2, channels, *(s if settings.get("fixed_input_size") else min(s, 96) for s in sides))
    training = model.training
    model.eval(), halves.eval()
    try:
        expected, got = model(probe), halves(probe)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError):
        return False
    finally:
        model.train(training)
    return got.shape == expected.shape and bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1e-6))
