"""Masks of green plants in photographs: excess green (Woebbecke et al. 1995) above Otsu's threshold (1979), smoothed."""

import numpy as np

from study.datasets.spec import Foreground

BINS = 64
SMOOTHED = 5  # pixels across


def plant_mask(images: np.ndarray) -> np.ndarray:
    """Return bool [B, S, S] of uint8 [B, S, S, 3]. The threshold is each image's own, so it means nothing on an image without a plant."""
    from scipy.ndimage import uniform_filter  # half a second to load, which reading a table need not wait for

    rgb = images.astype(np.float32)
    share = rgb / np.maximum(rgb.sum(axis=-1, keepdims=True), 1)
    green = 2 * share[..., 1] - share[..., 0] - share[..., 2]
    flat = uniform_filter(green, size=(1, SMOOTHED, SMOOTHED), mode="nearest").reshape(len(images), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    levels = ((flat - low) / np.maximum(high - low, 1e-6) * (BINS - 1)).astype(int)
    mask: np.ndarray = levels > np.array([_otsu(np.bincount(row, minlength=BINS)) for row in levels])[:, None]
    return mask.reshape(images.shape[:3])


def _otsu(histogram: np.ndarray) -> int:
    """Return the last level of the lower class, where the histogram's two classes are separated best."""
    level = np.arange(len(histogram))
    below, total = np.cumsum(histogram)[:-1], histogram.sum()
    sums = np.cumsum(histogram * level)
    apart = (sums[-1] * below - sums[:-1] * total) ** 2 / np.maximum(below * (total - below), 1)
    return int(np.flatnonzero(apart == apart.max()).mean())


def plants(without: tuple[int, ...]) -> Foreground:
    """Return the foreground of plants. `without`: labels of images that show no plant of interest."""
    return Foreground(subject="plant", mask=plant_mask, without=without)
