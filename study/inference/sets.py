"""Prediction sets: all classes whose probability is not too low, so that the true one is among them as often as was asked for.

They come from split conformal prediction with the score 1 - p(true class) ("LAC": Sadinle, Lei and Wasserman 2019, JASA 114; Vovk,
Gammerman and Shafer 2005).
"""

import math

import numpy as np


def least_probability(of_truth: np.ndarray, level: float, images: int = 0) -> float | None:
    """Return the least probability of a class that is in a set, or None where n is too small for the level.

    It is the k-th highest of `of_truth`, the probabilities [N] of the true classes on images that the network did not learn from, with
    k = ceil((n + 1) level). Where several networks scored the same n `images`, it is at the same share of the N.
    """
    n = images or len(of_truth)
    k = math.ceil((n + 1) * level - 1e-9)
    if k > n:
        return None
    return float(np.sort(of_truth)[::-1][math.ceil(k / n * len(of_truth) - 1e-9) - 1])


def fewest_images(level: float) -> int:
    """Return the number of images that a level needs."""
    return math.ceil(level / (1 - level) - 1e-9)


def members(probabilities: np.ndarray, least: float) -> np.ndarray:
    """Probabilities [N, C] -> bool [N, C]: the classes in each image's set. The most probable one always is, so that no set is empty."""
    inside: np.ndarray = probabilities >= least
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside
