"""The training images that a network finds most similar to a picture, by the cosine of the pooled features that its head reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from study.inference.framing import cut_tiles
from study.inference.pixels import plain
from study.networks.timm_model import as_timm
from study.use.predictor import Predictor

CHUNK = 64


@torch.no_grad()
def features(network: Predictor, images: np.ndarray) -> np.ndarray:
    """Return float32 [N, D] of length 1 for uint8 [N, S, S, C] as `Predictor.prepare` gives them; for pictures in tiles the mean of
    theirs."""
    model, rows = as_timm(network.model), []
    down, across = network.kept.tiles
    for start in range(0, len(images), CHUNK):
        raw = torch.tensor(cut_tiles(images[start : start + CHUNK], (down, across))).to(network.where.device)
        with network.where.autocast():
            pixels = plain(raw, size=network.kept.image_size, mean=network.mean, std=network.std)
            pooled = model.forward_head(model.forward_features(pixels), pre_logits=True)
        rows.append(pooled.flatten(1).float().cpu().numpy())
    found = np.concatenate(rows)
    if down * across > 1:
        found = found.reshape(len(images), down * across, -1).mean(axis=1)
    out: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return out


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    name: str  # of the image
    label: str  # of its class
    cosine: float  # of its features with the picture's
    image: np.ndarray  # uint8 [S, S, C]


class Neighbours:
    """A search for neighbours among `images` uint8 [N, S, S, C], with class names and names of their own [N]."""

    def __init__(self, network: Predictor, images: np.ndarray, labels: Sequence[str], names: Sequence[str]) -> None:
        self.network, self.images, self.labels, self.names = network, images, labels, names
        self.features = features(network, images)

    def nearest(self, image: np.ndarray, most: int) -> list[Neighbour]:
        """Return the neighbours of a prepared picture [S, S, C], the most similar first."""
        cosines = self.features @ features(self.network, image[None])[0]
        order = np.argsort(-cosines, kind="stable")[:most]
        return [Neighbour(name=self.names[k], label=self.labels[k], cosine=float(cosines[k]), image=self.images[k]) for k in order]
