"""Measurements on finished networks, each against a case whose answer is known."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from study.datasets.foreground import plant_mask, plants
from study.datasets.labelled import read_labelled
from study.datasets.miniatures import weed
from study.datasets.spec import TEST, TRAIN, VAL, ImageTable
from study.errors import DataError
from study.measure import MEASUREMENTS, Finished
from study.measure.background import CHANGES
from study.measure.base import Images, Measurement, NotMeasured, measure
from study.measure.calibration import fit_temperature
from study.measure.corruptions import KINDS, corrupt
from study.measure.features import spread
from study.measure.reprobe import fit_probe
from study.metrics import unbiased_cka
from study.networks.pretrained import create
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import LEFT_OUT, SUMMARY
from study.run import measure_trial, run_trial
from study.storage.folder import Folder
from study.storage.places import Places

SIZE = 32
PROTOCOL = Protocol(max_epochs=1, image_size=SIZE, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5)
CONFIG = TrialConfig.default(Cell(dataset="digits", backbone="efficientnet_lite0", strategy="full", train_fraction=0.2), PROTOCOL, seed=3)
RNG = np.random.default_rng(0)


def kernel(features: np.ndarray) -> np.ndarray:
    return features @ features.T


# ---- figures against their closed forms ----------------------------------------------------------------


def test_features_align_with_themselves_however_they_are_turned_and_scaled() -> None:
    x = RNG.standard_normal((30, 12))
    turned = x @ np.linalg.qr(RNG.standard_normal((12, 12)))[0] * 7
    assert unbiased_cka(kernel(x), kernel(x)) == pytest.approx(1)
    assert unbiased_cka(kernel(x), kernel(turned)) == pytest.approx(1)
    assert unbiased_cka(kernel(x), kernel(x + 5)) == pytest.approx(1), "a shift of all images is no change"


def test_unrelated_features_align_with_nothing_even_of_few_images() -> None:
    """Biased CKA of 12 images and 200 features is near 1 by construction. The unbiased one scatters about 0."""
    drawn = [unbiased_cka(kernel(RNG.standard_normal((12, 200))), kernel(RNG.standard_normal((12, 200)))) for _ in range(400)]
    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / 20
    assert np.isnan(unbiased_cka(np.ones((5, 5)), np.ones((5, 5))))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_a_scaled_softmax_is_found(temperature: float) -> None:
    logits = 2 * RNG.standard_normal((4000, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([RNG.choice(5, p=p) for p in shares])
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.1)


def test_a_probe_finds_what_features_hold_and_no_more() -> None:
    labels = RNG.integers(3, size=400)
    told = np.eye(3)[labels] + 0.3 * RNG.standard_normal((400, 3))
    silent = RNG.standard_normal((400, 20))
    assert (fit_probe(told[:300], labels[:300], told[300:]) == labels[300:]).mean() > 0.9
    assert (fit_probe(silent[:300], labels[:300], silent[300:]) == labels[300:]).mean() < 0.55


def test_excess_green_finds_the_leaves_that_were_drawn() -> None:
    """There are 40 miniature weeds. About 0.45 of the union is what a threshold can do where grass is green too."""
    overlaps, by_chance = [], []
    for k in range(40):
        leaves: list[np.ndarray] = []
        image = weed(k % 8, k, np.random.Generator(np.random.Philox(key=[37, k])), leaves=leaves)
        true = np.max(leaves, axis=0).reshape(64, 2, 64, 2).mean(axis=(1, 3)) > 0.5
        found = plant_mask(image[None])[0]
        overlaps.append((found & true).sum() / (found | true).sum())
        by_chance.append(true.mean() * found.mean() / (true.mean() + found.mean() - true.mean() * found.mean()))
    assert np.mean(overlaps) > 0.3 and np.mean(overlaps) > 1.5 * np.mean(by_chance)


# ---- planted effects, on answers made up from the pixels -------------------------------------------------


class Answers:
    """A stand-in for a network: logits are a function of the pixels."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.logits = function


def made_up(
    pixels: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    answer: Callable[[np.ndarray], np.ndarray],
    **more: Any,
) -> Finished:
    table = ImageTable(
        name="made_up",
        classes=tuple(map(str, range(int(labels.max()) + 1))),
        ids=tuple(f"{k:04d}" for k in range(len(labels))),
        labels=labels,
        split=split,
        form="",
        fingerprint=str(hash(pixels.tobytes())),
        decode=lambda k: pixels[k],
        policy="mild",
        channels=pixels.shape[-1],
        native_size=pixels.shape[1],
        foreground=more.pop("foreground", None),
    )

    def none() -> Any:
        raise AssertionError("not asked for")

    plain: dict[str, Any] = {"start": none, "published": none, "foreign": {}, "labelled": None, "earlier": lambda name: None}
    return Finished(config=CONFIG, network=Answers(answer), table=table, pixels=pixels, **{**plain, **more})  # type: ignore[arg-type]


def scenes(count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a bright green square (class by its size) on ground whose blue goes with the class, and return pixels, labels and masks."""
    labels = np.arange(count) % 2
    pixels = np.full((count, 24, 24, 3), (120, 90, 60), np.uint8)
    pixels[..., 2] = np.where(labels, 160, 20)[:, None, None]
    masks = np.zeros((count, 24, 24), bool)
    for k, y in enumerate(labels):
        masks[k, 8 : 16 + 4 * y, 8 : 16 + 4 * y] = True
    pixels[masks] = (20, 200, 20)
    return pixels, labels, masks


def by_background(pixels: np.ndarray) -> np.ndarray:
    blue = pixels[:, :4, :4, 2].mean(axis=(1, 2)) > 90
    return np.eye(2)[blue.astype(int)]


def by_subject(pixels: np.ndarray) -> np.ndarray:
    green = (pixels[..., 1].astype(int) - pixels[..., 0] > 100).sum(axis=(1, 2)) > 100
    return np.eye(2)[green.astype(int)]


@pytest.mark.parametrize(("answer", "gap"), [(by_background, 0.3), (by_subject, 0.0)])
def test_a_planted_shortcut_is_found_and_its_absence_too(answer: Callable[[np.ndarray], np.ndarray], gap: float) -> None:
    pixels, labels, masks = scenes()
    finished = made_up(pixels, labels, np.full(60, VAL), answer, foreground=dataclasses.replace(plants(()), mask=lambda images: masks))
    found = MEASUREMENTS["background"]
    rows = found.rows(finished)
    by = dict(zip(rows["change"].to_pylist(), rows["accuracy"].to_pylist(), strict=True))
    assert list(by) == list(CHANGES) and by["as it is"] == 1
    measured = found.summary(rows)["gap"]
    assert measured > gap if gap else measured == 0
    assert (by["background only"] == 1) == (answer is by_background), "the subject is gone without a trace"
    assert (by["subject only"] == 1) == (answer is by_subject)


def predictions(split: np.ndarray, labels: np.ndarray, right: np.ndarray) -> pa.Table:
    logits = np.eye(2)[np.where(right, labels, 1 - labels)].astype(np.float32)
    names = np.array(["train", "val", "test"])[split]
    kept = split != TRAIN
    return pa.table(
        {
            "split": names[kept],
            "image": [f"{k:04d}" for k in np.flatnonzero(kept)],
            "label": labels[kept],
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits[kept].reshape(-1)), 2),
        }
    )


def test_planted_copies_are_found_and_scored_apart() -> None:
    pixels = RNG.integers(256, size=(90, 16, 16, 1), dtype=np.uint8)
    labels = RNG.integers(2, size=90)
    split = np.repeat([TRAIN, VAL, TEST], 30)
    pixels[60:70] = pixels[:10]  # ten test images lie in train too
    right = np.arange(90) < 70  # which are all the network knows
    finished = made_up(pixels, labels, split, by_subject, earlier=lambda name: predictions(split, labels, right))
    rows = MEASUREMENTS["copies"].rows(finished).to_pylist()
    assert [(r["copied"], r["images"], r["accuracy"]) for r in rows] == [(True, 10, 1.0), (False, 20, 0.0)]
    with pytest.raises(NotMeasured, match="no test image has"):
        alone = dataclasses.replace(finished, pixels=RNG.integers(256, size=(90, 16, 16, 1), dtype=np.uint8))
        MEASUREMENTS["copies"].rows(dataclasses.replace(alone, table=dataclasses.replace(alone.table, fingerprint="another")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_corruptions_are_pure_and_grow(kind: str, channels: int) -> None:
    ramp = np.linspace(60, 150, 48)[None, :, None, None] + 25 * RNG.standard_normal((3, 48, 48, channels)).cumsum(axis=2) / 4
    pixels = np.clip(ramp, 0, 255).astype(np.uint8)
    off = []
    for severity in (1, 2, 3):
        changed = corrupt(pixels, kind, severity)
        assert changed.shape == pixels.shape and changed.dtype == np.uint8
        assert np.array_equal(changed, corrupt(pixels, kind, severity))
        off.append(np.abs(changed.astype(int) - pixels).mean())
    assert 0 < off[0] < off[2], off
    assert np.array_equal(corrupt(pixels, kind, 0), pixels)


def test_what_cannot_be_measured_says_why_and_is_no_zero(tmp_path: Path) -> None:
    pixels, labels, _ = scenes(8)
    finished = made_up(pixels, labels, np.full(8, VAL), by_subject)
    for name, reason in {
        "background": "does not say where",
        "cka": "too few",
        "copies": "predictions",
        "calibration": "predictions",
    }.items():
        folder = Folder(str(tmp_path / name))
        assert reason in measure(finished, MEASUREMENTS[name], folder)
        table = pq.read_table(folder.path(f"measured/{name}.parquet"))
        assert table.num_rows == 0 and reason in table.schema.metadata[LEFT_OUT.encode()].decode()


def test_the_same_images_are_asked_of_every_network_classes_in_proportion() -> None:
    labels = np.repeat([0, 1], [900, 100])
    few = spread(np.arange(1000), labels, 100)
    assert len(few) == 100 and (labels[few] == 1).sum() == 10


# ---- a real network --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, Folder]:
    folder = Folder(str(tmp_path_factory.mktemp("trained")))
    places = Places(folder=folder.location, foreign=("digits", "mini_faces"))
    run_trial(CONFIG, places, lambda record: False, measurements=("predictions",))
    folder.write("result.json", b"{}")
    return places, folder


def test_every_measurement_of_a_real_network_is_rows_with_finite_figures(trained: tuple[Places, Folder]) -> None:
    places, folder = trained
    left_out = measure_trial(CONFIG, places, tuple(MEASUREMENTS), folder)
    assert set(left_out) == {"background"}, left_out
    for name, measurement in MEASUREMENTS.items():
        table = pq.read_table(folder.path(f"measured/{name}.parquet"))
        if name in left_out:
            continue
        assert table.num_rows
        few = json.loads((table.schema.metadata or {}).get(SUMMARY.encode(), b"{}"))
        assert few == pytest.approx(measurement.summary(table)) and all(np.isfinite(v) for v in few.values())
        assert (name == "predictions") == (not few)
    tasks = pq.read_table(folder.path("measured/reprobe.parquet"))["task"].to_pylist()
    assert tasks == ["digits", "mini_faces"], "its own first, itself never as a foreign one"
    stages = pq.read_table(folder.path("measured/cka.parquet")).to_pylist()
    assert [r["stage"] for r in stages] == list(range(1, len(stages) + 1)) and all(r["trained"] for r in stages)


class Untouched(Measurement):
    """A measurement that passes the start to another measurement in the place of the tuned network."""

    splits = ("val",)

    def __init__(self, inner: Measurement) -> None:
        self.inner, self.name = inner, inner.name  # type: ignore[misc]

    def rows(self, finished: Finished) -> pa.Table:
        start = finished.start()
        network = SimpleNamespace(
            model=start.model.eval(), where=finished.network.where, mean=finished.network.mean, std=finished.network.std
        )
        return self.inner.rows(dataclasses.replace(finished, network=network))  # type: ignore[arg-type]


def test_a_network_that_was_not_tuned_has_forgotten_nothing(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    places, folder = trained
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("forgetting", "way_back", "cka", "reprobe"):
        monkeypatch.setitem(MEASUREMENTS, name, Untouched(MEASUREMENTS[name]))
    names = ("forgetting", "way_back", "cka", "reprobe")
    measure_trial(CONFIG, places, names, folder)
    for name in names:
        found[name] = pq.read_table(folder.path(f"measured/{name}.parquet")).to_pylist()
    for row in found["forgetting"]:  # statistics estimated anew are so in both networks
        assert row["agreement"] == 1 and row["kl"] == pytest.approx(0, abs=1e-6), row["kind"]
    assert len(found["forgetting"]) == 2
    assert {r["agreement"] for r in found["way_back"]} == {1.0} and len({r["accuracy"] for r in found["way_back"]}) == 1
    assert all(r["cka"] == pytest.approx(1, abs=1e-5) and not r["trained"] for r in found["cka"])
    assert all(r["accuracy"] == r["accuracy_before"] for r in found["reprobe"])


def test_what_lies_below_the_cut_is_aligned_to_the_last_digit(tmp_path: Path) -> None:
    config = TrialConfig.default(dataclasses.replace(CONFIG.cell, strategy="partial"), PROTOCOL, seed=3)
    places = Places(folder=str(tmp_path))
    run_trial(config, places, lambda record: False, measurements=("cka",))
    rows = pq.read_table(tmp_path / "measured/cka.parquet").to_pylist()
    assert [r["trained"] for r in rows] == [True] + [False] * (len(rows) - 1)
    assert all(r["cka"] == pytest.approx(1, abs=1e-9) for r in rows if not r["trained"]) and rows[0]["cka"] < 0.999


# ---- images of the original classes ----------------------------------------------------------------------


def test_labelled_images_are_read_from_a_table_and_from_folders_of_wordnet_ids(tmp_path: Path) -> None:
    (tmp_path / "n01443537").mkdir()
    Image.new("RGB", (20, 30), "red").save(tmp_path / "n01443537" / "fish.png")
    (tmp_path / "not_a_class").mkdir()
    found = read_labelled(tmp_path)
    assert list(found.labels) == [1] and found.native_size == 20, "the goldfish is ImageNet's second class"
    table = tmp_path / "labels.csv"
    table.write_text("filename,class_index\nfish.png,1\n")
    with pytest.raises(DataError, match="neither beside the file nor in images"):
        read_labelled(table)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 30)).save(tmp_path / "images" / "fish.png")
    assert list(read_labelled(table).labels) == [1]
    table.write_text("filename,class_index\nfish.png,1000\n")
    with pytest.raises(DataError, match=r"must be a whole number 0\.\.999"):
        read_labelled(table)
    with pytest.raises(DataError, match="no folder named by a WordNet id"):
        read_labelled(tmp_path / "not_a_class")
    with pytest.raises(DataError, match="does not exist"):
        read_labelled(tmp_path / "nowhere")


def test_the_untouched_head_knows_as_much_as_before_of_labelled_images(tmp_path: Path) -> None:
    """The pretrained network itself, on images of its own classes, has the same accuracy before and after."""
    backbone = create("efficientnet_lite0", None)
    assert backbone.model.get_submodule(backbone.head).out_features == 1000
    images = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    labels = np.array([0, 1, 2, 3])
    finished = made_up(np.tile(images, (6, 1, 1, 1)), np.arange(24) % 2, np.repeat([VAL, TRAIN], 12), by_subject)
    where = SimpleNamespace(place=lambda m: m, autocast=torch.no_grad, device=torch.device("cpu"))
    network = SimpleNamespace(model=backbone.model.eval(), where=where, mean=backbone.mean, std=backbone.std)
    table = dataclasses.replace(finished.table, classes=tuple(map(str, range(1000))), labels=labels, split=np.zeros(4, np.int8))
    finished = dataclasses.replace(
        finished,
        network=network,  # type: ignore[arg-type]
        start=lambda: backbone,
        published=lambda: create("efficientnet_lite0", None),
        labelled=lambda: Images(table=table, pixels=images),
    )
    rows = MEASUREMENTS["forgetting"].rows(finished).to_pylist()
    assert rows[0]["accuracy"] == rows[0]["accuracy_before"] is not None and rows[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_statistics_of_the_start_are_those_of_the_runs_own_training_images() -> None:
    """Two seeds of a fraction train on different images, and an untouched network has forgotten nothing on either's statistics."""
    backbone = create("efficientnet_lite0", None)
    where = SimpleNamespace(place=lambda m: m, autocast=torch.no_grad, device=torch.device("cpu"))
    network = SimpleNamespace(model=backbone.model.eval(), where=where, mean=backbone.mean, std=backbone.std)
    images = np.random.default_rng(8).integers(0, 255, (24, SIZE, SIZE, 3), np.uint8)
    images[16:] //= 4  # another part, of other statistics
    for part in (slice(8, 16), slice(16, 24)):
        split = np.full(24, -1)
        split[:8], split[part] = VAL, TRAIN
        finished = dataclasses.replace(
            made_up(images, np.arange(24) % 2, split, by_subject),
            network=network,  # type: ignore[arg-type]
            start=lambda: backbone,
            published=lambda: create("efficientnet_lite0", None),
        )
        as_it_is, anew = MEASUREMENTS["forgetting"].rows(finished).to_pylist()
        assert as_it_is["agreement"] == anew["agreement"] == 1 and anew["kl"] == pytest.approx(0, abs=1e-6)
