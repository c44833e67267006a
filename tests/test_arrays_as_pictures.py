"""Arrays and tensors that Python holds as pictures: every form that says which pixel is which is taken, others are refused as given."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from study.datasets import no_images
from study.datasets.from_python import as_image
from study.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)

FORMS = {
    "last": lambda a: a,
    "first": lambda a: np.moveaxis(a, -1, 0),
    "grey": lambda a: a[..., 0],
    "grey first": lambda a: a[None, ..., 0],
}
DTYPES = {"uint8": np.uint8, "float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize(("form", "dtype", "tensor"), itertools.product(FORMS, DTYPES, (False, True)))
def test_an_array_is_its_picture_whatever_its_form(form: str, dtype: str, tensor: bool) -> None:
    pixels = FORMS[form](np.where(RGB > 127, np.uint8(255), np.uint8(0)))
    values = pixels if dtype == "uint8" else pixels / 255
    if dtype == "bfloat16" and not tensor:
        return  # NumPy has none
    given = torch.tensor(values.copy()).to(getattr(torch, dtype)) if tensor else values.astype(DTYPES[dtype])
    expected = pixels if form in ("last", "grey") else np.moveaxis(pixels, 0, -1)
    assert np.array_equal(np.asarray(as_image(given, 0)), expected[..., 0] if form == "grey first" else expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ma.masked_greater(RGB, 3), "image 7 is masked in part"),
        (np.moveaxis(RGB.astype(np.uint16), -1, 0), r"image 7 is uint16 \[3, 6, 10\]. It must be"),
        (np.zeros((2, 6, 10)), r"image 7 is float64 \[2, 6, 10\]. It must be"),
        (np.where(RGB > 3, np.nan, 0.0), "image 7 holds numbers that are not finite"),
        (np.full((6, 10), 1.004), "floats from 1.004 to 1.004, not in .* clipped"),
        (RGB / 255 - 0.5, "without normalisation"),
    ],
)
def test_what_is_refused_is_named_as_it_was_given(given: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_image(given, 7)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(9).to_sparse(),
        torch.zeros(3, 9, 9, device="meta"),
        torch.zeros(3, 9, 9).to(torch.float8_e4m3fn),
        torch.quantize_per_tensor(torch.zeros(3, 9, 9), 0.1, 0, torch.quint8),
    ],
    ids=["sparse", "meta", "float8", "quantized"],
)
def test_tensors_that_numpy_has_not_are_refused_as_such(tensor: torch.Tensor) -> None:
    with pytest.raises(DataError, match="image 3 is a tensor that NumPy cannot hold .*Give uint8 or float32"):
        as_image(tensor, 3)


def test_what_rounding_leaves_beyond_white_is_white() -> None:
    assert np.asarray(as_image(np.full((8, 8), 1 + 1e-7), 0)).min() == 255
    assert np.asarray(as_image(np.full((8, 8), -1e-9), 0)).max() == 0


def test_a_picture_that_cannot_be_shown_has_a_way_out() -> None:
    closed = Image.new("RGB", (8, 8))
    closed.close()
    with pytest.raises(DataError, match=f"image 2: .*; {no_images.BAD.way_out}"):
        as_image(closed, 2)
