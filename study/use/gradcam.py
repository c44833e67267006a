"""Heat maps of where a network looked: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) by Captum, on the maps that the head reads."""

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from study.inference.pixels import plain
from study.networks.timm_model import as_timm
from study.use.predictor import Predictor

EXTRA = "where it looked is shown by Captum: pip install 'finetune-study[demo]'"
NO_PLACES = "not shown where it looked: the head of this network reads no map of the picture"
TILES = "not shown where it looked: each tile of the picture has its own answer"
NOTHING = "not shown where it looked: no place of the picture speaks for its answer, or its head does not read the places (a class token)"


def heat_map(network: Predictor, image: np.ndarray, answer: int) -> tuple[np.ndarray | None, str]:
    """Return (the evidence in picture [S, S, C] for class number `answer`, float32 [S, S] from 0 to 1; ""), or (None, why there is none).

    For an ensemble its first network is used. A transformer whose head reads its class token alone has no map, since no gradient leads
    from there to the patches beside it.
    """
    try:
        from captum.attr import LayerAttribution, LayerGradCam
    except ImportError:
        return None, EXTRA
    if network.kept.tiles != [1, 1]:
        return None, TILES
    seen = _Seen(network.model)
    pixels = plain(torch.tensor(image[None]).to(network.where.device), size=network.kept.image_size, mean=network.mean, std=network.std)
    try:
        with torch.enable_grad():
            found = LayerGradCam(seen, seen.maps).attribute(pixels, target=answer, relu_attributions=True).detach()
    except _NoMapsError:
        return None, NO_PLACES
    heat = LayerAttribution.interpolate(found, image.shape[:2], "bilinear")[0].mean(0).float().cpu().numpy()
    most = float(heat.max())
    return (heat / most, "") if most > 0 and math.isfinite(most) else (None, NOTHING)


def shown(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the picture, uint8 [S, S, C], dark where the network did not look."""
    return cast(np.ndarray, (image * (0.2 + 0.8 * heat[..., None])).round().astype(np.uint8))


class _NoMapsError(Exception):
    """An error where the head's input has no places in the image."""


class _Seen(nn.Module):
    """The network with a module that its feature maps [N, C, h, w] pass through, for Captum to observe."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.maps = model, nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        features = as_timm(self.model).forward_features(pixels)
        if (turned := _as_maps(self.model, features)) is None:
            raise _NoMapsError
        maps, back = turned
        return as_timm(self.model).forward_head(back(self.maps(maps)))


def _as_maps(model: nn.Module, features: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Return (features as [N, C, h, w], the way back): timm's networks give that, or channels last, or tokens; None for other shapes."""
    if not isinstance(features, Tensor):
        return None
    channels = int(cast(int, model.num_features))
    if features.ndim == 4 and features.shape[1] == channels and min(features.shape[2:]) > 1:  # one place would be all of the picture
        return features, lambda maps: maps
    if features.ndim == 4 and features.shape[-1] == channels and min(features.shape[1:3]) > 1:
        return features.permute(0, 3, 1, 2), lambda maps: maps.permute(0, 2, 3, 1)
    if features.ndim == 3 and features.shape[-1] == channels:
        before = int(cast(int, getattr(model, "num_prefix_tokens", 0)))
        patches = features[:, before:]
        side = math.isqrt(patches.shape[1])
        if side * side == patches.shape[1] and side > 1:
            maps = patches.transpose(1, 2).unflatten(2, (side, side))
            return maps, lambda maps: torch.cat([features[:, :before], maps.flatten(2).transpose(1, 2)], dim=1)
    return None
