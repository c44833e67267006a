"""Weights of the classes in the loss: equal, by inverse frequency, or by the effective number of their images."""

import math

import numpy as np


def class_weights(images: np.ndarray, beta: float) -> np.ndarray | None:
    """Return float32 [C] from the training images of each class [C]; None: equal weights.

    n images of a class count as (1 - beta^n) / (1 - beta), the effective number of samples (Cui et al. 2019, arXiv 1901.05555): one for
    beta = 0, n in the limit of beta = 1. The mean weight of a training image is 1, so that learning rates mean the same as without
    weights. Classes without an image have weight 0.
    """
    if beta == 0:
        return None
    effective = images.astype(np.float64) if beta == 1 else -np.expm1(images * math.log(beta)) / (1 - beta)
    weights = np.divide(1.0, effective, out=np.zeros(len(images)), where=images > 0)
    scaled: np.ndarray = (weights * images.sum() / (weights * images).sum()).astype(np.float32)
    return scaled
