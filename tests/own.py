"""Photographs that look like something: smooth random scenes. Any hash tells their copies from other scenes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, size: tuple[int, int] = (48, 36)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 60) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def classes(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """Write class folders of scenes, each a different one."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            scene(first + 1000 * number + k).save(root / name / f"{k:03d}.png")
    return root
