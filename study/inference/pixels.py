"""Pixels from uint8 to a network's input: floats, resized where necessary, normalised."""

import torch
from torch import Tensor
from torch.nn import functional as F


def plain(batch: Tensor, *, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return float32 [B, 3, size, size] of uint8 [B, H, W, C], only resized and normalised, for validation, test, and strength 0."""
    pixels = to_float(batch)
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=max(pixels.shape[-2:]) > size, align_corners=False)
    return normalise(pixels, mean, std)


def to_float(batch: Tensor) -> Tensor:
    """Return float32 [B, C, H, W] in [0, 1] of uint8 [B, H, W, C]."""
    return batch.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return [B, 3, S, S], channels last, of [B, 1 or 3, S, S] in [0, 1]; grey is shown to all three channels."""
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    centre = torch.tensor(mean, device=pixels.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=pixels.device).view(1, 3, 1, 1)
    return (pixels - centre).div_(scale).contiguous(memory_format=torch.channels_last)
