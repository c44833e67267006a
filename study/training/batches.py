"""The fewest images that a worker may get at a step.

One image is too few where a trained layer normalises by its batch and sees one number a channel, as the last layers do of small images.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from study.errors import ConfigError
from study.networks.cutting.cut import split
from study.networks.pretrained import Backbone
from study.question.training_settings import Protocol
from study.strategies import Phase

ONE = "more than 1 value per channel"  # how torch says it


@torch.no_grad()
def fewest_images(made: Backbone, phases: Sequence[Phase], batch_norm: Literal["train", "freeze"]) -> int:
    """Return 1, or 2 where the network refuses one image in training mode.

    The passes change the network's statistics, so give a copy that is not used again.
    """
    for phase in phases:
        model = split(made, phase.cut)
        model.set_training(phase, batch_norm)
        try:
            model.trained(model.activations(torch.zeros(1, *made.input_size)).float())
        except ValueError as error:
            if ONE not in str(error):
                raise
            return 2
    return 1


def check_share(where: str, protocol: Protocol, images: int, needed: int) -> None:
    """Check that every worker gets `needed` images at every step. Raises ConfigError with the smallest batch size that gives them."""
    if (share := protocol.share(images)) >= needed:
        return
    why = "the network normalises by batches, so a worker needs 2" if needed > 1 else "every worker needs 1"
    sizes = range(protocol.batch_size, images + protocol.workers + 1)
    enough = (b for b in sizes if b % protocol.workers == 0 and protocol.share(images, b) >= needed)
    least = next(enough, None)
    way = f"set batch_size={least} or more" if least else f"{images} images are too few for {protocol.workers} worker(s): add some"
    freeze = ", or batch_norm=freeze" if needed > 1 else ""
    raise ConfigError(
        f"{where}: batch_size {protocol.batch_size} gives a worker {share} of {images} training images at some steps, and {why}; "
        f"{way}{freeze}."
    )
