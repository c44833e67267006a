"""Search for images that are exact or near copies of one another, which our splits never put on two sides.

Two images are near copies when the difference hashes of their thumbnails differ in at most NEAR_BITS of 64 bits. For small or plain
images that is weak evidence; they are surely near copies when their thumbnails are equal within NEAR_GREY, too.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR_BITS = 3  # of 64
NEAR_GREY = 8.0  # of 255: mean difference of two grey thumbnails
SIDE = 16  # pixels of such a thumbnail
PAIRS = 100_000  # thumbnails compared at a time
BANDS = 4  # of 16 bits: two hashes that differ in three bits are equal in one of four bands
BLOCK = 2048  # hashes compared with all others of their band at a time


def difference_hash(pixels: np.ndarray) -> np.uint64:
    """Return the dHash, 64 bits: in an 8 x 9 grey thumbnail, is each pixel brighter than its right neighbour. `pixels`: uint8 [H, W,
    C]."""
    grey = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    small = np.asarray(grey, dtype=np.int16)
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    return np.uint64(int("".join("1" if b else "0" for b in bits), 2))


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return SIDE x SIDE grey values. `pixels`: uint8 [H, W, C]."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L")
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def sure_pairs(hashes: np.ndarray, thumbnails: list[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions [n], [n] of images that are surely near copies, in blocks; a pair may come twice."""
    grey = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(hashes), -1).astype(np.int16)
    for a, b in near_pairs(hashes):
        a, b = a[a < b], b[a < b]
        for start in range(0, len(a), PAIRS):
            first, second = a[start : start + PAIRS], b[start : start + PAIRS]
            alike = np.abs(grey[first] - grey[second]).mean(axis=1) <= NEAR_GREY
            yield first[alike], second[alike]


def near_pairs(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions [n], [n] of hashes (uint64) within NEAR_BITS of one another, in blocks; a pair may come twice.

    It is exact at any number of images, although only hashes that are equal in a band are compared.
    """
    for band in range(BANDS):
        key = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            for start in range(0, len(rows) if len(rows) > 1 else 0, BLOCK):
                own = rows[start : start + BLOCK]
                a, b = np.nonzero(np.bitwise_count(hashes[own][:, None] ^ hashes[rows][None, :]) <= NEAR_BITS)
                yield own[a], rows[b]


def clusters(digests: np.ndarray, hashes: np.ndarray | None = None, thumbnails: list[bytes] | None = None) -> np.ndarray:
    """Return int64 [N]: the cluster of copies of each image, numbered from 0. A copy of a copy is in the same cluster.

    `digests`: of the pixels, equal for equal ones; `hashes`: uint64 [N], None for exact copies alone; with `thumbnails` near copies are
    joined only where they are sure.
    """
    count = len(digests)
    _, exact = np.unique(digests, return_inverse=True)
    if hashes is None or not count:
        return exact.astype(np.int64)
    images = np.arange(count)
    if thumbnails is not None:
        return joined(2 * count, [(images, exact + count), *sure_pairs(hashes, thumbnails)])[:count]
    kinds, looks = np.unique(hashes, return_inverse=True)
    pairs = [(exact + count, looks + 2 * count)]  # an image joins its pixels' node and its hash's node; near hashes join each other
    pairs += [(a + 2 * count, b + 2 * count) for a, b in near_pairs(kinds)]
    return joined(3 * count, [(images, exact + count), *pairs])[:count]


def joined(count: int, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return int64 [count]: connected parts of the graph with these edges, numbered in order of appearance."""
    a, b = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    _, part = connected_components(coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count)), directed=False)
    return np.asarray(part, np.int64)


def merged(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return int64 [N]: the finest groups that keep every group of both together."""
    count = len(first)
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    return joined(2 * count, [(a, b + count)])[a]
