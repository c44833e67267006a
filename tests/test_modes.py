"""One decoding of every mode and format, whichever way a picture comes in. A picture without a scale is refused by name."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from study import own_dataset
from study.datasets import open_dataset
from study.datasets.from_python import as_image
from study.datasets.imagefiles import decode_file
from study.errors import DataError
from study.inference import outside, pictures
from study.inference.pixels import plain
from study.tracking.model import carry
from tests.own import classes, scene
from tests.raw_pictures import PAGE, Case, cases, colour, grey, page, png, saved, seen, tiff

CASES = list(cases())
READ, REFUSED = [c for c in CASES if c.shows is not None], [c for c in CASES if c.shows is None]


def given(data: bytes | Path, touched: bool) -> np.ndarray:
    """Return the picture as a data set of Python's gives it: its PNG, decoded."""
    image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    if touched:
        image.load()
    file = io.BytesIO()
    as_image(image, 0).save(file, "PNG")
    return pictures.decode(file, 3)


WAYS: dict[str, Callable[[bytes, Path], np.ndarray]] = {
    "file": lambda data, folder: decode_file(_file(data, folder), 3),
    "request": lambda data, folder: pictures.decode(io.BytesIO(data), 3),  # of a served model, and of the page of the demo
    "Python": lambda data, folder: given(data, touched=False),
    "Python, a file": lambda data, folder: given(_file(data, folder), touched=False),
    "Python, read before": lambda data, folder: given(data, touched=True),
}


def _file(data: bytes, folder: Path) -> Path:
    path = folder / "picture"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_what_a_person_sees_is_what_training_sees(case: Case, way: str, tmp_path: Path) -> None:
    if case.shows is None:
        if way.startswith("Python") and "channels" in case.done:
            pytest.skip("Pillow opens no such file")
        with pytest.raises((ValueError, DataError), match=case.done.removeprefix("refused: ").replace("*", r"\*").replace("(", r"\(")):
            WAYS[way](case.data, tmp_path)
        return
    if way == "Python, read before" and case.holds.startswith(("grey, 2", "grey, 4")) and "transparent" in case.holds:
        with pytest.raises(DataError, match="Give its file"):
            WAYS[way](case.data, tmp_path)
        return
    found = WAYS[way](case.data, tmp_path)
    assert found.dtype == np.uint8 and found.shape == case.shows.shape
    assert np.abs(found.astype(int) - case.shows).max() <= case.loss
    assert np.array_equal(found, pictures.decode(io.BytesIO(case.data), 3)), "to the pixel, whichever way"


@pytest.mark.parametrize(
    ("numbers", "bits", "options", "shows"),
    [
        (grey(8), 8, {}, seen(grey(8))),
        (grey(16), 16, {}, seen(grey(16), 16)),
        (grey(12), 16, {"tags": {281: 4095}}, seen(grey(12), 12)),
        (colour(16), 16, {}, seen(colour(16), 16)),
        (grey(8) / 255, 32, {"form": 3}, seen(grey(8))),
        (grey(12), 12, {}, "1 channel of 12 bits"),
        (grey(8), 32, {}, "1 channel of 32 bits"),
        (grey(7), 16, {"form": 2}, "whole numbers with a sign"),
        (grey(8) / 255, 64, {"form": 3}, "1 channel of 64 bits"),
        (grey(8) / 255, 16, {"form": 3}, "1 channel of 16 bits"),
    ],
)
def test_the_order_of_bytes_changes_nothing_but_what_pillow_reads(numbers, bits: int, options, shows) -> None:
    data = tiff(numbers, bits, order=">", **options)
    if isinstance(shows, str):
        with pytest.raises(ValueError, match=f"{shows}.* (S|s)ave it as 8-bit"):
            pictures.decode(io.BytesIO(data), 3)
    else:
        assert np.abs(pictures.decode(io.BytesIO(data), 3).astype(int) - shows).max() <= 1


ABOUT = {"stored_side": 12, "size": 8, "channels": 3, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(("side", "size", "channels"), [(12, 8, 3), (12, 12, 1), (16, 15, 1), (8, 20, 3)])
@pytest.mark.parametrize("case", READ, ids=lambda c: c.id)
def test_the_pages_that_travel_with_an_export_make_the_networks_pixels(case: Case, side: int, size: int, channels: int) -> None:
    about = ABOUT | {"stored_side": side, "size": size, "channels": channels}
    image = pictures.square(pictures.decode(io.BytesIO(case.data), channels), side)
    ours = plain(torch.from_numpy(image.copy())[None], size=size, mean=tuple(about["mean"]), std=tuple(about["std"]))
    np.testing.assert_allclose(outside.pixels(io.BytesIO(case.data), about), ours.numpy(), atol=2e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("case", ["JPEG", "PNG", "WEBP", "TIFF", "PNG, one colour transparent", "TIFF, 16 bits"])
def test_a_turned_picture_is_turned_whichever_way_it_comes(case: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    soft = Image.fromarray(np.stack([grey(), grey() // 2, 255 - grey()], axis=-1).astype(np.uint8))
    format, _, rest = case.partition(", ")
    if case == "TIFF, 16 bits":
        data = tiff(grey(12), 16, tags={281: 4095, 274: orientation})
    else:
        picture = Image.open(io.BytesIO(png(colour(), 8, 2, tuple(int(v) for v in colour()[4, 6])))) if rest else soft
        data = saved(picture, format, exif=exif)
    upright = pictures.decode(io.BytesIO(data), 3)
    assert upright.shape[:2] == ((20, 24) if orientation <= 4 else (24, 20))
    for way, read in WAYS.items():
        assert np.array_equal(read(data, tmp_path), upright), way
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(soft, "PNG", exif=exif)))))
    if case in ("PNG", "TIFF"):
        assert np.array_equal(upright, expected)


def test_a_torchvision_folder_is_read_as_its_files_are(tmp_path: Path) -> None:
    """Its loader makes RGB of everything, and gives transparent places any colour. A transform may lose how a picture lies."""
    root = classes(tmp_path / "own", {"a": 6, "b": 6})
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(3).save(root / "a" / "turned.jpg", exif=exif, quality=95)
    clear = scene(4).convert("RGBA")
    clear.putalpha(Image.fromarray((np.indices((36, 48)).sum(0) % 2 * 255).astype(np.uint8)))
    clear.save(root / "a" / "clear.png")
    clear.quantize(8).save(root / "b" / "palette.png", transparency=2)
    (root / "b" / "deep.tif").write_bytes(tiff(grey(12), 16, tags={281: 4095}))
    folder = open_dataset(f"folder:{root}")
    data = ImageFolder(str(root))
    for given_data in (data, torch.utils.data.Subset(data, range(len(data))), torch.utils.data.ConcatDataset([data])):
        table = open_dataset(own_dataset(given_data, classes=data.classes, folder=tmp_path / "made"))
        for k, (path, _) in enumerate(data.samples):
            other = folder.ids.index(str(Path(path).relative_to(root)))
            assert np.array_equal(table.decode(k), folder.decode(other)), path


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tiff(grey(12), 16, tags={281: 4095}), "has more than 8 bits in its file"),
        (png(grey(), 8, 0, (3,)), "is transparent in part in its file"),
        (tiff(grey(), 8, tags={274: 6}), ""),
        (tiff(grey(), 8), ""),
    ],
)
@pytest.mark.parametrize("tensor", [True, False])
def test_what_a_transform_hides_of_a_torchvision_folder_is_refused(data: bytes, why: str, tensor: bool, tmp_path: Path) -> None:
    root = classes(tmp_path / "own", {"a": 6, "b": 6})
    (root / "a" / ("x.tif" if data[:2] == b"II" else "x.png")).write_bytes(data)
    part = ImageFolder(str(root), transform=(lambda i: np.asarray(i)) if tensor else lambda i: i.resize(i.size))
    if not why:
        assert len(open_dataset(own_dataset(part, folder=tmp_path / "made")).ids) == 13
        return
    with pytest.raises(DataError, match=rf"image 6 {why} \(.*/a/x\....\), .* without transform"):
        own_dataset(part, folder=tmp_path / "made")


@pytest.mark.parametrize("tensor", [True, False])
def test_a_turned_jpeg_is_refused_where_its_transform_loses_how_it_lies(tensor: bool, tmp_path: Path) -> None:
    root, exif = classes(tmp_path / "own", {"a": 6, "b": 6}), Image.Exif()
    exif[0x0112] = 6
    scene(3).save(root / "a" / "turned.jpg", exif=exif, quality=95)
    part = ImageFolder(str(root), transform=(lambda i: np.asarray(i)) if tensor else lambda i: i.resize(i.size))
    if tensor:
        with pytest.raises(DataError, match=r"image 6 lies turned in its file .*turned\.jpg.* without transform"):
            own_dataset(part, folder=tmp_path / "made")
        return
    table = open_dataset(own_dataset(part, folder=tmp_path / "made"))
    assert np.array_equal(table.decode(6), decode_file(root / "a" / "turned.jpg", 3))


def test_studies_of_pictures_that_are_read_as_ever_keep_what_was_kept(tmp_path: Path) -> None:
    """The fingerprint names the caches. It differs where a picture is read anew, and only there."""
    root = classes(tmp_path / "own", {"a": 6, "b": 6})
    (root / "a" / "deep.tif").write_bytes(tiff(grey(16), 16))
    before = open_dataset(f"folder:{root}").fingerprint
    from study.datasets.imagefiles import fingerprint, identity

    files = sorted(root.rglob("*.*"))
    assert before == fingerprint(["folder", *map(identity, files)])
    (root / "a" / "clear.png").write_bytes(png(grey(), 8, 0, (3,)))
    files = sorted(root.rglob("*.*"))
    assert open_dataset(f"folder:{root}").fingerprint != fingerprint(["folder", *map(identity, files)])


def test_what_has_no_scale_is_left_out_by_name_and_many_of_it_refuse_the_whole(tmp_path: Path) -> None:
    root = classes(tmp_path / "own", {"a": 20, "b": 20})
    (root / "a" / "mask.tif").write_bytes(tiff(grey(8), 32))
    assert dict(open_dataset(f"folder:{root}").ignored)["a/mask.tif"].startswith("whole numbers of 32 bits: nothing says which is white")
    for k in range(4):
        (root / "b" / f"mask{k}.tif").write_bytes(tiff(grey(8), 32))
    with pytest.raises(DataError, match=r"5 of the images in .* cannot be read: a/mask\.tif \(whole numbers of 32 bits"):
        open_dataset(f"folder:{root}")


def test_a_registered_model_carries_all_that_reads_a_picture(tmp_path: Path) -> None:
    assert {"scales.py", "pictures.py", "outside.py"} <= {p.name for p in carry(tmp_path).iterdir()}


def test_the_table_of_modes_is_what_is_done() -> None:
    assert len(READ) > 50 and len(REFUSED) > 12
    assert page() == PAGE.read_text(), "python -m tests.raw_pictures"
