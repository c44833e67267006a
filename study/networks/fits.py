"""A strategy's phases on one network: the parts that move there, and the error where none does."""

from dataclasses import replace

from torch import nn

from study.errors import ConfigError
from study.networks.pretrained import Backbone
from study.strategies import Phase, Strategy
from study.strategies.slots import Slot


def phases_on(strategy: Strategy, backbone: Backbone, epochs: int, where: str = "") -> tuple[Phase, ...]:
    """Return the strategy's phases. A stage without parameters to train is frozen; stages below the last trained one are cut off.

    Raises ConfigError in one line, naming `where` (a cell, say), where this network does not fit.
    """
    where = where or f"{backbone.name}/{strategy.name}"
    try:
        asked = strategy.phases(backbone.num_stages, epochs)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    phases = tuple(_fitted(phase, backbone.slots) for phase in asked)
    for before, after in zip(asked, phases, strict=True):
        if before.cut > 0 and after.cut == 0:
            raise ConfigError(
                f"{where}: {strategy.name} trains {_trained(before)}, and {backbone.name} has none in the stages that it trains below its "
                "head. Choose another strategy or backbone."
            )
    if any(phase.freeze_statistics for phase in phases) and not _has_statistics(backbone.model):
        raise ConfigError(
            f"{where}: {strategy.name} keeps the statistics of batch norm, and {backbone.name} has none, so it would be the strategy "
            "without that. Choose the plain one, or another backbone."
        )
    return phases


def _fitted(phase: Phase, slots: tuple[Slot, ...]) -> Phase:
    moving = {slot.stage for slot in slots if phase.moves(slot)}
    return replace(phase, lrs=tuple(lr if k in moving else None for k, lr in enumerate(phase.lrs)))


def _trained(phase: Phase) -> str:
    names = {"norm": "normalisation layers", "shift": "biases", "bias": "biases", "weight": "weights", "embedding": "embeddings"}
    return "linear and 1x1 convolutional weights" if phase.rank else " and ".join(sorted(names[k] for k in phase.kinds))


def _has_statistics(model: nn.Module) -> bool:
    return any(getattr(module, "running_mean", None) is not None for module in model.modules())
