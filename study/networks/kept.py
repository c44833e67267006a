"""A network that is kept: its weights, and all that is needed to build and use it again, in two files of plain data.

best/model.safetensors   the tensors, under timm's names
     manifest.json       a Kept, and the file's size and sha256, written last
"""

from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import nn

from study import checkpoint
from study.errors import ConfigError
from study.files import Folder
from study.networks.weights import timm_name
from study.records import Record

NAME = "best"


@dataclass(frozen=True, kw_only=True)
class Kept(Record):
    """What a network must know of itself to be used without the study that made it."""

    trial: str  # id of the trial
    backbone: str  # as the study names it
    classes: list[str]
    image_size: int  # pixels, square, as it was trained
    channels: int  # of the images it takes: 1 or 3
    precision: str
    epoch: int
    arguments: dict[str, Any] = field(default_factory=dict)  # for timm, e.g. pad_type


def keep(folder: Folder, network: Kept, tensors: dict[str, torch.Tensor]) -> None:
    """Writes the whole network into `folder`/best, so that it can be used without anything else."""
    checkpoint.save_weights(folder, NAME, tensors, network.as_dict())


def load(folder: Folder, **expected: Any) -> tuple[Kept, nn.Module]:
    """The network kept in a trial's folder, or in `folder` itself. Raises ConfigError where none is whole."""
    found = checkpoint.load_weights(folder, NAME, **expected) or checkpoint.load_weights(folder, ".", **expected)
    if found is None:
        raise ConfigError(f"{folder.location} holds no intact best checkpoint (best/manifest.json); name a trial's folder.")
    tensors, facts = found
    kept = Kept.from_dict(facts)
    model: nn.Module = timm.create_model(timm_name(kept.backbone), pretrained=False, num_classes=len(kept.classes), **kept.arguments)
    model.load_state_dict(tensors, strict=True)
    return kept, model
