"""A network that takes pictures of any size and gives probabilities, built from a folder with manifest.json and model.safetensors."""

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load
from torch import nn

from .device import Device
from .framing import FITS, MOST_TILES, POOLS, cut_tiles, prepare
from .pixels import plain
from .softmax import over_tiles, probabilities

BATCH = 64
LARGEST_SIDE = 8192  # pixels: no picture is brought to more


def build(backbone: str, classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Return the network without its weights.

    `backbone`: timm's own name. Raises ValueError for an address (hf-hub:, local-dir:), by which a stranger's manifest would choose what
    is contacted or read.
    """
    if not isinstance(backbone, str) or ":" in backbone or "/" in backbone:
        raise ValueError(f"backbone is {_short(backbone)}, which is an address and no name of timm's own")
    model: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=classes, **arguments)
    return model


def check_manifest(facts: dict[str, Any], weights: bytes) -> None:
    """Raise ValueError where a manifest has impossible values, or others than its own weights file.

    The weights file is hashed and has the same facts, since no tensor's shape tells the order of classes, the size of images and their
    channels.
    """
    told = json.loads((json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")]).get("__metadata__") or {}).get("kept", "null"))
    if not isinstance(told, dict):
        raise ValueError("its weights do not say what network they are, as those that a study keeps do")
    for name, value in told.items():
        if facts.get(name) != value:
            raise ValueError(f"it says {name} {_short(facts.get(name))}, its weights say {_short(value)}: one of the two was changed")
    if not (isinstance(facts["trial"], str) and re.fullmatch(r"[0-9a-z-]{1,64}", facts["trial"])):
        raise ValueError(f"trial is {_short(facts['trial'])}, not an id")
    classes = facts["classes"]
    if not isinstance(classes, list) or not all(map(_is_name, classes)) or len(set(classes)) < max(len(classes), 1):
        raise ValueError(f"classes is {_short(classes)}, not names that differ and that a terminal can show")
    for name in ("image_size", "side"):
        if type(facts[name]) is not int or not 1 <= facts[name] <= LARGEST_SIDE:
            raise ValueError(f"{name} is {_short(facts[name])}, not 1..{LARGEST_SIDE} pixels")
    for name, known in (("channels", (1, 3)), ("precision", ("fp32", "bf16"))):
        if type(facts[name]) is not type(known[0]) or facts[name] not in known:
            raise ValueError(f"{name} is {_short(facts[name])}, not {' or '.join(map(str, known))}")
    for name, names in (("fit", FITS), ("pool", POOLS)):
        if facts.get(name, names[0]) not in names:
            raise ValueError(f"{name} is {_short(facts[name])}, not {' or '.join(names)}")
    thresholds = facts.get("thresholds", [])
    numbers = isinstance(thresholds, list) and all(type(v) in (int, float) for v in thresholds)
    if not numbers or len(thresholds) not in (0, len(classes)):
        raise ValueError(f"thresholds is {_short(thresholds)}, not a number for each class")
    if type(facts.get("several", False)) is not bool:
        raise ValueError(f"several is {_short(facts['several'])}, not true or false")
    tiles = facts.get("tiles", [1, 1])
    if not isinstance(tiles, list) or len(tiles) != 2 or not all(type(n) is int and 1 <= n <= MOST_TILES for n in tiles):
        raise ValueError(f"tiles is {_short(tiles)}, not two numbers of rows and columns, 1..{MOST_TILES}")


def _is_name(value: Any) -> bool:
    """Return True for a class's name as a study keeps it: composed, of characters that can be shown."""
    return isinstance(value, str) and value != "" and value.isprintable() and unicodedata.normalize("NFC", value) == value


def set_weights(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Give the network these tensors. Raises ValueError, which names one, where they are another network's."""
    own, there = ({name: f"{list(t.shape)} {t.dtype}" for name, t in of.items()} for of in (model.state_dict(), tensors))
    for name in sorted(own.keys() | there.keys()):
        if own.get(name) != there.get(name):
            told = (forms.get(name, "absent").replace("torch.", "") for forms in (there, own))
            raise ValueError("its weights are another network's: {} is {} in the file, {} in the network".format(name, *told))
    model.load_state_dict(tensors, strict=True)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Classifier:
    """A network on the best device here, in evaluation mode, with the preprocessing it was trained with."""

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int,
        side: int,
        channels: int,
        precision: str,
        temperature: float = 1.0,
        fit: str = "square",
        tiles: tuple[int, int] = (1, 1),
        pool: str = "mean",
        several: bool = False,
    ) -> None:
        self.size, self.side, self.channels, self.temperature = size, side, channels, temperature
        self.fit, self.tiles, self.pool, self.several = fit, tiles, pool, several
        self.where = Device.best(precision)
        self.model = self.where.place(model).eval()
        timm_model: Any = model
        self.num_classes = int(timm_model.num_classes)
        self.mean, self.std = tuple(timm_model.default_cfg["mean"]), tuple(timm_model.default_cfg["std"])

    @classmethod
    def from_folder(cls, folder: Path) -> "Classifier":
        """Return the classifier of a registered model. Raises ValueError where the weights are not those of the manifest."""
        facts = json.loads((folder / "manifest.json").read_text())
        data = (folder / "model.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise ValueError(f"{folder}/model.safetensors is not the file its manifest describes. Download the model again.")
        check_manifest(facts, data)
        model = build(facts["backbone"], len(facts["classes"]), facts["arguments"])
        set_weights(model, load(data))
        return cls(
            model,
            size=facts["image_size"],
            side=facts["side"],
            channels=facts["channels"],
            precision=facts["precision"],
            temperature=facts.get("temperature", 1.0),
            fit=facts.get("fit", "square"),
            tiles=tuple(facts.get("tiles", (1, 1))),
            pool=facts.get("pool", "mean"),
            several=facts.get("several", False),
        )

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return the image as training saw images, uint8 [S, S, channels]; with several tiles [rows * S, columns * S, channels].

        `image`: uint8 [H, W, 1, 3 or 4].
        """
        return prepare(image, self.side, self.channels, self.fit, self.tiles)

    @torch.no_grad()
    def logits(self, images: list[np.ndarray]) -> np.ndarray:
        """Return float32 [N, classes] of N images uint8 [H, W, 1, 3 or 4], each of its own size.

        For pictures in tiles these are the logarithms of their probabilities.
        """
        rows: list[np.ndarray] = [np.zeros((0, self.num_classes), np.float32)]
        count = self.tiles[0] * self.tiles[1]
        batch = max(BATCH // count, 1)
        for start in range(0, len(images), batch):
            framed = np.stack([self.prepare(image) for image in images[start : start + batch]])
            raw = torch.from_numpy(cut_tiles(framed, self.tiles)).to(self.where.device)
            with self.where.autocast():
                said = self.model(plain(raw, size=self.size, mean=self.mean, std=self.std)).float().cpu().numpy()
            rows.append(over_tiles(said, count, self.pool, self.several))
        return np.concatenate(rows)

    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """Return probabilities float32 [N, classes]: `logits` divided by the temperature, through softmax in float64, or
        of several labels through the sigmoid."""
        return probabilities(self.logits(images) / self.temperature, self.several)
