"""The whole picture: its centre square, all of it, or tiles of it.

Training, prediction and export share one framing, counted by pictures.
"""

import csv
import io
import typing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study import predict
from study.conduct.checks import check_data
from study.datasets import open_dataset
from study.datasets.audit import audit, long_said
from study.datasets.cache import pixels
from study.datasets.visible import cut_off_test
from study.errors import ConfigError
from study.inference import outside
from study.inference.framing import FITS, GREY, MOST_TILES, POOLS, cut_tiles, frame
from study.inference.pictures import square
from study.inference.softmax import over_tiles, softmax
from study.networks.kept import CROP_MODES
from study.question import name_parts
from study.question.cell import Cell
from study.question.naming import DataName
from study.question.training_settings import Fit, Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.records import EpochRecord
from study.run import run_trial
from study.storage.places import Places
from study.strategies import Features
from study.tracking.ledger import Ledger
from study.use import formats
from study.use.predictor import Predictor


def long_pictures(root: Path, each: int = 20) -> Path:
    """Write two classes of pictures three times as wide as high that differ at their left end alone."""
    rng = np.random.default_rng(0)
    for name, bright in (("dark", 20), ("light", 235)):
        (root / name).mkdir(parents=True)
        for k in range(each):
            image = rng.integers(90, 160, (32, 96, 3), dtype=np.uint8)
            image[:, :24] = np.clip(bright + rng.integers(-20, 20, (32, 24, 3)), 0, 255)
            Image.fromarray(image).save(root / name / f"{k:02d}.png")
    return root


def test_the_names_of_fits_and_pools_are_the_same_everywhere() -> None:
    assert typing.get_args(Fit) == FITS == tuple(formats.FITTED) == tuple(CROP_MODES)
    assert name_parts.POOLS == POOLS and name_parts.MOST_TILES == MOST_TILES


@settings(deadline=None)
@given(st.integers(8, 60), st.integers(8, 200), st.sampled_from(FITS), st.integers(1, 3), st.integers(1, 3), st.integers(4, 20))
def test_a_frame_has_its_shape_and_is_framed_once(height: int, width: int, fit: str, rows: int, columns: int, side: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    framed = frame(image, side, fit, (rows, columns))
    assert framed.shape == (rows * side, columns * side, 3)
    assert frame(framed, side, fit, (rows, columns)) is framed
    tiles = cut_tiles(framed[None], (rows, columns))
    assert len(tiles) == rows * columns and (tiles[columns - 1] == framed[:side, -side:]).all(), "the first row's last tile"


def test_pad_shows_all_of_a_picture_on_grey_and_stretch_pulls_it() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :4], image[:, -4:] = 255, 255
    padded, stretched = frame(image, 40, "pad"), frame(image, 40, "stretch")
    assert (padded[:15] == GREY).all() and (padded[-15:] == GREY).all() and (padded[15:25] == image).all()
    assert stretched[:, :3].min() > 200 and stretched[:, -3:].min() > 200 and stretched[:, 10:30].max() < 50
    assert not square(image, 40).any(), "the centre square sees neither end"


@pytest.mark.parametrize("pool", POOLS)
def test_tiles_are_pooled_by_their_probabilities(pool: str) -> None:
    logits = np.random.default_rng(1).normal(size=(6, 3))
    shares = softmax(logits).reshape(2, 3, 3)
    wanted = shares.mean(1) if pool == "mean" else shares.max(1) / shares.max(1).sum(1, keepdims=True)
    assert np.allclose(softmax(over_tiles(logits, 3, pool).astype(float)), wanted, atol=1e-6)
    assert over_tiles(logits, 1, pool) is logits


def test_what_the_name_of_data_may_say_of_tiles() -> None:
    assert DataName.parse("folder:a/b?tiles=1x3").options == {"tiles": "1x3"}
    for wrong, why in (
        ("tiles=3", "ROWSxCOLUMNS"), ("tiles=1x9", "1 to 8 each"), ("tiles=0x2", "ROWSxCOLUMNS"),
        ("tiles=1x3&pool=median", "mean or max"), ("pool=max", "no tiles to pool.* Write folder:a/b.tiles=1x3&pool=max"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            DataName.parse(f"folder:a/b?{wrong}")


def test_the_centre_squares_of_whole_pictures_keep_their_ids_and_their_cache() -> None:
    """A study that was begun before there was a choice goes on."""
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="partial")
    usual = TrialConfig.default(cell, Protocol())
    assert "fit" not in usual.as_dict()["protocol"]
    assert len({usual.id, *(TrialConfig.default(cell, Protocol(fit=fit)).id for fit in FITS)}) == len(FITS)
    with pytest.raises(ConfigError, match="fit must be square .* not 'crop'"):
        Protocol(fit="crop")  # type: ignore[arg-type]


def test_training_sees_each_tile_and_keeps_those_of_a_picture_together(tmp_path: Path) -> None:
    name = f"folder:{long_pictures(tmp_path / 'p')}?tiles=1x3"
    table = open_dataset(name)
    whole = pixels(table, 32, tmp_path)
    assert table.name == name and whole.shape == (40, 32, 96, 3)
    seen = cut_off_test(table, whole)
    pictures = int((table.split < 2).sum())
    assert len(seen.table.labels) == 3 * pictures
    rows = np.arange(6)
    first = np.flatnonzero(table.split < 2)[:2]
    assert (seen.pixels(rows) == cut_tiles(whole[first], (1, 3))).all()
    assert all(len(set(seen.table.split[k : k + 3])) == 1 for k in range(0, 3 * pictures, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_pictures(tmp_path_factory.mktemp("long") / "p")


@pytest.mark.parametrize(("fit", "options", "told"), [
    ("square", "", False), ("pad", "", True), ("stretch", "", True), ("square", "?tiles=1x3", True), ("pad", "?tiles=1x3&pool=max", True),
])  # fmt: skip
def test_what_lies_at_an_end_is_told_by_those_that_see_it_and_a_picture_counts_once(
    fit: Fit, options: str, told: bool, folder: Path, tmp_path: Path
) -> None:
    name = f"folder:{folder}{options}"
    cell = Cell(dataset=name, backbone="efficientnet_lite0", strategy="features")
    config = TrialConfig(cell=cell, strategy=Features(), recipe=Recipe(), protocol=Protocol(max_epochs=1, image_size=32, fit=fit))
    trial = tmp_path / "trial"
    records: list[EpochRecord] = []
    places = Places(folder=str(trial), cache=str(tmp_path / "cache"))
    run_trial(config, places, lambda r: records.append(r) or False, measurements=("predictions", "calibration", "cka"))
    table = open_dataset(name)
    held = int((table.split > 0).sum())
    rows = pq.read_table(trial / "measured" / "predictions.parquet")
    assert len(rows) == held and rows["image"].to_pylist() == [i for i, s in zip(table.ids, table.split, strict=True) if s > 0]
    assert np.sum(records[0].confusion) == (table.split == 1).sum(), "scores count pictures"
    logits = np.stack(rows["logits"].to_numpy(zero_copy_only=False))
    right = (logits.argmax(1) == rows["label"].to_numpy()).mean()
    assert (right > 0.8) == told
    reason = (pq.read_schema(trial / "measured" / "cka.parquet").metadata or {}).get(b"left_out", b"").decode()
    assert ("seen in tiles" in reason) == ("tiles" in options), reason

    # one framing for whoever asks: files, arrays, what an export's pages make of a file, and a table of predictions
    network = Predictor.from_folder(str(trial))
    files = sorted(folder.glob("*/*.png"))
    at = [k for k, path in enumerate(files) if str(path).removeprefix(f"{folder}/") in rows["image"].to_pylist()]
    read = np.stack([network.read(str(files[k])) for k in at])
    assert np.allclose(network.logits(read), logits, atol=1e-4)
    about = formats.describe(network, 1.0)
    made = torch.from_numpy(outside.pixels(io.BytesIO(files[at[0]].read_bytes()), about))
    assert torch.allclose(made, formats.pixels_of(network, read[:1]), atol=2e-5)
    assert predict.main([str(trial), str(folder), "--csv", str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(files), "a row a picture"


def test_the_doctor_says_how_many_are_long_and_what_is_lost(folder: Path) -> None:
    report = audit(open_dataset(f"folder:{folder}"))
    assert report.long_images == 40 and abs(report.long_lost - 2 / 3) < 1e-9
    assert "40 of 40 images are longer than 1.5 : 1, and the centre square loses 67% of each" in long_said(report)
    assert not long_said(audit(open_dataset("digits")))
    assert audit(open_dataset(f"folder:{folder}?tiles=1x3")).long_images == 0


def test_a_study_of_centre_squares_says_what_it_loses_and_one_of_whole_pictures_does_not(folder: Path, tmp_path: Path) -> None:
    data = DataName.parse(f"folder:{folder}")
    tables = {(data.dataset, data.protocol): open_dataset(data.dataset)}
    assert any("longer than 1.5 : 1" in line for line in check_data(tables, Ledger(tmp_path, "one")))
    assert not any("longer" in line for line in check_data(tables, Ledger(tmp_path, "two"), fit="pad"))
    assert DataName.parse(f"folder:{folder}?tiles=1x3").short == f"{data.short}_1x3"
