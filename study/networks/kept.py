"""A kept network: its weights, and all that is needed to build and use it again, in three files of plain data.

best/model.safetensors   the tensors, under timm's names; its metadata say how to build the network around them
     config.json         for timm: timm.create_model("local-dir:.../best", pretrained=True) is this network
     manifest.json       a Kept, and the tensors' size and sha256, written last
"""

import shlex
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from study.errors import ConfigError
from study.inference.classifier import build, check_manifest, set_weights
from study.networks.files import allow_arguments
from study.records import TRIAL_ID, Record, dumps
from study.storage import checkpoint
from study.storage.folder import Folder

NAME = "best"
CROP_MODES = {"square": "center", "pad": "border", "stretch": "squash"}
"""timm's names for the ways to bring a picture to a square."""


@dataclass(frozen=True, kw_only=True)
class Kept(Record):
    """Facts that make a network usable without the study that made it."""

    trial: str  # id of the trial
    backbone: str  # timm's own name
    classes: list[str]
    image_size: int  # pixels, square, as it was trained
    channels: int  # of the images it takes: 1 or 3
    precision: str
    epoch: int
    arguments: dict[str, Any]  # for timm, e.g. pad_type
    side: int  # pixels, square: images are brought to this size first, as the cache that training read
    fit: str = "square"  # how: `study.inference.framing`
    tiles: list[int] = field(default_factory=lambda: [1, 1])  # rows and columns that a picture is cut into, each seen for itself
    pool: str = "mean"  # of its tiles' probabilities
    several: bool = False  # whether a picture may have several of its classes, or none: each is a label with a sigmoid of its own
    thresholds: list[float] = field(default_factory=list)  # of labels' logits, above which validation says that a picture has them


def keep(folder: Folder, network: Kept, tensors: dict[str, torch.Tensor], name: str = NAME) -> None:
    """Write the whole network into `folder`/best, so that it can be used by itself."""
    folder.write(f"{name}/config.json", dumps(timm_config(network), indent=1).encode())
    metadata = {"format": "pt", "timm_kwargs": dumps(network.arguments), "kept": dumps(network.as_dict())}
    checkpoint.save_weights(folder, name, tensors, network.as_dict(), metadata)


def timm_config(network: Kept) -> dict[str, Any]:
    """Return config.json as timm's hub models have it: all of the centre square, or of the picture, is shown, so the crop share is 1."""
    published = timm.get_pretrained_cfg(network.backbone)
    settings = published.to_dict(remove_source=True, remove_null=True) if published else {}
    own = {
        "input_size": [3, network.image_size, network.image_size],
        "crop_pct": 1.0,
        "crop_mode": CROP_MODES[network.fit],
        "interpolation": "bilinear",
        "num_classes": len(network.classes),
        "label_names": network.classes,
    }
    stale = ("architecture", "custom_load", "pool_size", "test_input_size", "test_crop_pct", "min_input_size", "label_offset", "tag")
    return {
        "architecture": network.backbone,
        "num_classes": len(network.classes),
        "model_args": network.arguments,
        "pretrained_cfg": {k: v for k, v in settings.items() if k not in stale} | own,
    }


def _no_network(folder: Folder) -> str:
    """Return why there is no network to load, and how to get one."""
    place = _study_of(folder)
    if not place:
        return f"{folder.location} holds no intact network (best/manifest.json). Name a study, RESULTS/STUDY, or a trial's folder in it."
    lost = f"{folder.location}: the trial's network, {NAME}/, is gone or damaged. Restore it from a copy, or"
    if (trial := _trial_of(folder)) and trial.encode() in (Folder(place).read("delivered.json") or b""):
        return f"{lost} deliver another: python -m study.deliver {shlex.quote(place)} --again"
    return f"{lost} train the trial again: remove {folder.location} and run python -m study.sweep {shlex.quote(place)}"


def _study_of(folder: Folder) -> str:
    """Return the study that a trial's folder lies in; empty for any other folder, which nobody is advised to remove."""
    place, trials = folder.location.rpartition("/trials/")[0], folder.location.rpartition("/")[0]
    own = place and trials.endswith("/trials") and folder.exists("config.json") and Folder(place).exists("study.json")
    return place if own else ""


def _trial_of(folder: Folder) -> str:
    """Return the id of the trial whose folder it is; empty for any other folder."""
    above, _, name = folder.location.rpartition("/")
    return name if above.endswith("/trials") and TRIAL_ID.fullmatch(name) else ""


def load(folder: Folder, **expected: Any) -> tuple[Kept, nn.Module]:
    """Return the network kept in a trial's folder, or in `folder` itself. Raises ConfigError where none is whole."""
    found = checkpoint.weights_file(folder, NAME, **expected) or checkpoint.weights_file(folder, ".", **expected)
    if found is None:
        raise ConfigError(_no_network(folder))
    data, facts = found
    try:
        kept = Kept.from_dict(facts)
        allow_arguments(kept.arguments)
        check_manifest(facts, data)
        if (own := _trial_of(folder)) and kept.trial != own:
            raise ValueError(f"it is of trial {kept.trial}, and lies in the folder of trial {own}")
        tensors = safetensors.torch.load(data)
        model = build(kept.backbone, len(kept.classes), kept.arguments)
        set_weights(model, tensors)
    except ConfigError:
        raise
    except Exception as error:  # whatever timm or torch make of a stranger's manifest
        reason = str(error) if isinstance(error, ValueError) else f"timm cannot build it ({type(error).__name__})"
        raise ConfigError(
            f"{folder.location} is not the network its manifest describes: {' '.join(reason.split()).rstrip('.')}. Restore its files "
            "from where they came, or name another network."
        ) from None
    if not all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point()):
        place = _study_of(folder)
        way_out = f"To train the trial again, remove {folder.location} and run python -m study.sweep {place}" if place else "Name another."
        raise ConfigError(f"{folder.location} holds weights that are not finite. It cannot predict. {way_out}")
    return kept, model
