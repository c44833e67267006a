"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899): two images of a batch and their labels
blended.

There is one share for each batch, and an image's partner is its mirror in the batch's order, as in timm. The draw is a function of (seed,
pass, step), so neither resuming nor the number of workers changes it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from study.question.training_settings import Recipe


@dataclass(frozen=True, kw_only=True)
class Blend:
    """The blend of one batch's images with their partners."""

    share: float  # of an image that stays its own
    box: tuple[int, int, int, int] | None = None  # CutMix: top, bottom, left, right of what the partner fills, in pixels

    def images(self, own: Tensor, partners: Tensor) -> Tensor:
        """Blend [B, C, H, W] twice into [B, C, H, W]."""
        if self.box is None:
            return own.lerp(partners, 1 - self.share)
        top, bottom, left, right = self.box
        blended = own.clone()
        blended[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return blended

    def targets(
        self, own: Tensor, partners: Tensor, classes: int, weights: Tensor | None = None, partner_weights: Tensor | None = None
    ) -> Tensor:
        """Blend int64 [B] or probabilities [B, classes], twice, into probabilities float32 [B, classes].

        Where images have weights [B], a target leans to the heavier image, so that the cross-entropy of the blend, weighted by `weights`,
        is that of the two images in their shares.
        """
        one, other = (t if t.ndim == 2 else F.one_hot(t, classes).float() for t in (own, partners))
        if (blended := self.weights(weights, partner_weights)) is None or partner_weights is None:
            return one.lerp(other, 1 - self.share)
        lean = (1 - self.share) * partner_weights / blended.clamp(min=torch.finfo(blended.dtype).tiny)  # a blend may weigh nothing
        return one.lerp(other, lean[:, None])

    def weights(self, own: Tensor | None, partners: Tensor | None) -> Tensor | None:
        """Return the weight of each blend in the loss [B], from the weights [B] of both images; None where all weigh the same."""
        return None if own is None or partners is None else own.lerp(partners, 1 - self.share)


def draw(recipe: Recipe, *, seed: int, turn: int, step: int, size: int) -> Blend | None:
    """Return the blend for one step of pass `turn`, on images of size x size pixels; None where the recipe blends nothing."""
    if not recipe.blends:
        return None
    rng = np.random.Generator(np.random.Philox(key=[seed, turn], counter=[0, 0, 0, step + 1]))  # the order of images counts from 0
    pastes = rng.random() < 0.5 if recipe.mixup and recipe.cutmix else recipe.cutmix > 0
    alpha = recipe.cutmix if pastes else recipe.mixup
    share = float(rng.beta(alpha, alpha))
    if not pastes:
        return Blend(share=share)
    side = int(size * math.sqrt(1 - share))
    (top, bottom), (left, right) = (
        (max(centre - side // 2, 0), min(centre + (side + 1) // 2, size)) for centre in rng.integers(size, size=2).tolist()
    )
    return Blend(share=1 - (bottom - top) * (right - left) / size**2, box=(top, bottom, left, right))  # the share that is left in truth
