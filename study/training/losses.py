"""The losses, by name. Each is the sum over a batch, since a step divides by the size of the whole batch over all workers and parts.

An image's weight multiplies its whole loss here, for every loss, and is not part of a target.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

LossFunction = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, float], Tensor]
"""A function from (logits float32 [B, C], targets int64 [B] or probabilities float32 [B, C], weights of images [B], weights of classes
[C], label smoothing) to the sum over the batch, a scalar. Weights are None where all weigh the same."""

GAMMA = 2.0  # of the focal loss: the published choice


def cross_entropy(
    logits: Tensor, targets: Tensor, image_weights: Tensor | None, class_weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """Sum the cross-entropies of a batch."""
    if image_weights is None:
        return F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="sum")
    each = F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="none")
    return (image_weights * each).sum()


def focal(logits: Tensor, targets: Tensor, image_weights: Tensor | None, class_weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Sum the focal losses of a batch: (1 - p)^GAMMA times the cross-entropy of each class.

    Well-classified images so hardly count (Lin et al. 2017, arXiv 1708.02002, equation 5, over softmax probabilities p; targets may be
    soft).
    """
    classes = logits.shape[1]
    soft = targets if targets.ndim == 2 else F.one_hot(targets, classes).to(logits.dtype)
    soft = soft.lerp(torch.full_like(soft, 1 / classes), label_smoothing)
    log_p = logits.log_softmax(1)
    each = -soft * (1 - log_p.exp()) ** GAMMA * log_p
    each = (each if class_weights is None else each * class_weights).sum(1)
    return (each if image_weights is None else image_weights * each).sum()


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, image_weights: Tensor | None, class_weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """Sum over a batch the mean over labels of each label's cross-entropy, where an image may have several.

    `targets` are float32 [B, C] in [0, 1]. Smoothing draws them to one half.
    """
    each = F.binary_cross_entropy_with_logits(logits, targets.lerp(torch.full_like(targets, 0.5), label_smoothing), reduction="none")
    return _over_labels(each, image_weights, class_weights)


def binary_focal(
    logits: Tensor, targets: Tensor, image_weights: Tensor | None, class_weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """Sum over a batch the mean over labels of each one's focal loss, as the source has it: (1 - p)^GAMMA times its cross-entropy, p being
    the probability of what is true (Lin et al. 2017, equation 4)."""
    soft = targets.lerp(torch.full_like(targets, 0.5), label_smoothing)
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    each = -(soft * (1 - yes.exp()) ** GAMMA * yes + (1 - soft) * (1 - no.exp()) ** GAMMA * no)
    return _over_labels(each, image_weights, class_weights)


def _over_labels(each: Tensor, image_weights: Tensor | None, class_weights: Tensor | None) -> Tensor:
    own = (each if class_weights is None else each * class_weights).mean(1)
    return (own if image_weights is None else image_weights * own).sum()


OF_LABELS: dict[str, LossFunction] = {"cross_entropy": binary_cross_entropy, "focal": binary_focal}
"""The same where an image may have several labels."""
LOSSES: dict[str, LossFunction] = {"cross_entropy": cross_entropy, "focal": focal}
