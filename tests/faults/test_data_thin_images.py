"""Images much longer than wide: ordinary ones stay as they were, to the bit, and others cost no memory or are refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.datasets import open_dataset
from study.datasets.imagefiles import check_headers, decode_file
from study.errors import DataError
from study.inference.pictures import MAX_ASPECT, square
from tests.test_datasets import folder

ORDINARY = [(50, 50), (48, 64), (64, 48), (97, 131), (240, 720), (720, 240), (31, 155), (30, 299), (300, 30), (1, 10), (7, 7), (400, 300)]


def whole_then_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Return the image by definition: the short side resized with antialiasing, then the centre."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    target = (max(round(width * scale), size), max(round(height * scale), size))
    resized = np.asarray(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize(target, Image.Resampling.LANCZOS))
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    return resized[top : top + size, left : left + size].reshape(size, size, image.shape[-1])


def picture(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("shape", ORDINARY, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("channels", [1, 3])
def test_T1_ordinary_images_are_the_same_to_the_bit(shape: tuple[int, int], channels: int) -> None:
    image = picture(*shape, channels)
    for size in (8, 30, 50, 80, 281):
        np.testing.assert_array_equal(square(image, size), whole_then_centre(image, size))


@pytest.mark.parametrize("shape", [(20, 1700), (1700, 20), (11, 1001), (3, 299)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_T2_thin_images_show_the_same_centre(shape: tuple[int, int]) -> None:
    """They are cut before they are scaled, so they are shifted by less than a pixel of theirs."""
    ramp = np.linspace(0, 255, max(shape)).round().astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None] if shape[1] > shape[0] else ramp[:, None, None], (*shape, 3)).copy()
    for size in (min(shape), 40, 7):
        found, expected = square(image, size), whole_then_centre(image, size)
        assert found.shape == (size, size, 3)
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1 + 2 * 255 / max(shape)


def test_T3_a_thin_image_costs_little_memory() -> None:
    code = (
        "import resource, numpy as np; from study.inference.pictures import square\n"
        "image = np.zeros((4, 399, 3), np.uint8); square(image, 8)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; square(image, 1000)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150, f"{float(done.stdout):.0f} MB"


@pytest.mark.parametrize("size", [(16_000, 2), (2, 16_000), (1, 101)])
def test_T4_absurd_shapes_are_refused_by_name_with_the_rule(size: tuple[int, int], tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 5, "b": 5})
    thin = root / "a" / "thin.png"
    Image.new("RGB", size).save(thin)
    with pytest.raises(DataError, match=rf"thin\.png \({size[0]} x {size[1]} pixels: .*{MAX_ASPECT} times") as caught:
        open_dataset(f"folder:{root}")
    assert "1 of the images" in str(caught.value)
    with pytest.raises(DataError, match=r"thin\.png"):
        decode_file(thin, 3)
    Image.new("RGB", (100, 1)).save(thin)
    assert check_headers([thin]) == (1, [])
