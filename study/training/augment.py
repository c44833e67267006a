"""Augmentation, batched on the device: one sampled grid for crop, flip and rotation, one pass for colour.

Randomness comes from (seed, epoch, image) alone, through a counter-based generator. So it depends neither on the number of workers nor on
the order of batches, and a resumed trial sees the same images as an uninterrupted one.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from study.inference.pixels import normalise, plain, to_float

HEADROOM = 1.25  # images are stored this much larger than they are shown, so that crops keep their detail
LEVELS = 4  # strengths are rounded to k/LEVELS where augmented views are stored, so that trials can share them


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Magnitudes at strength 1; a strength in [0, 1] scales all of them, the flip's probability included."""

    min_area: float  # of the random crop, share of the image
    max_aspect: float  # of the random crop: log-uniform in [1/a, a]
    rotation: float  # degrees, either way
    flip: float  # probability
    brightness: float  # factors in [1-x, 1+x]
    contrast: float
    saturation: float


POLICIES = {
    "mild": Policy(min_area=0.7, max_aspect=1.0, rotation=15, flip=0.5, brightness=0, contrast=0, saturation=0),
    "strong": Policy(min_area=0.3, max_aspect=4 / 3, rotation=45, flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3),
}


def quantise(strength: float) -> float:
    return round(strength * LEVELS) / LEVELS


def _mix(x: Any) -> Any:
    """Return uint64, a number or an array, well mixed by splitmix64's finaliser (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seed: int, epoch: int, images: np.ndarray, draws: int) -> np.ndarray:
    """Return float64 [len(images), draws] in [0, 1): a pure function of its arguments."""
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(epoch) + np.uint64(1))
        rows = _mix(images.astype(np.uint64) + key)[:, None]
        cells = _mix(rows + np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


def augment(
    batch: Tensor,
    images: np.ndarray,
    *,
    policy: Policy,
    strength: float,
    seed: int,
    epoch: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """Return uint8 [B, S, S, C] as normalised float32 [B, 3, size, size], channels last. `images`: the images' own numbers, [B]."""
    if strength == 0:
        return plain(batch, size=size, mean=mean, std=std)
    u = uniforms(seed, epoch, images, 8)
    area = 1 - strength * (1 - policy.min_area) * u[:, 0]
    aspect = np.exp((2 * u[:, 1] - 1) * strength * math.log(policy.max_aspect))
    wide = np.minimum(np.sqrt(area * aspect), 1)  # half-widths of the crop, in units of the image's half-width
    high = np.minimum(np.sqrt(area / aspect), 1)
    shift_x, shift_y = (2 * u[:, 2] - 1) * (1 - wide), (2 * u[:, 3] - 1) * (1 - high)
    angle = np.deg2rad((2 * u[:, 4] - 1) * strength * policy.rotation)
    mirror = np.where(u[:, 5] < policy.flip * strength, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    theta = np.stack([wide * cos * mirror, -high * sin, shift_x, wide * sin * mirror, high * cos, shift_y], axis=1).reshape(-1, 2, 3)
    pixels = to_float(batch)
    grid = F.affine_grid(torch.from_numpy(theta).to(pixels), [len(batch), pixels.shape[1], size, size], align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if policy.brightness or policy.contrast or policy.saturation:
        v = uniforms(seed, epoch, images, 11)[:, 8:]
        factors = 1 + strength * (2 * v - 1) * np.array([policy.brightness, policy.contrast, policy.saturation])
        pixels = _colour(pixels, torch.from_numpy(factors).to(pixels))
    return normalise(pixels, mean, std)


def _colour(pixels: Tensor, factors: Tensor) -> Tensor:
    """Apply brightness, saturation and contrast, all affine in the pixel, in one fused pass, in place. `factors` [B, 3]."""
    brightness, contrast, saturation = (factors[:, k].view(-1, 1, 1, 1) for k in range(3))
    grey = pixels.mean(dim=1, keepdim=True)
    level = grey.mean(dim=(2, 3), keepdim=True)
    out = pixels.mul_(saturation).add_(grey * (1 - saturation))
    return out.sub_(level).mul_(contrast).add_(level).mul_(brightness).clamp_(0, 1)
