"""A user's own images: no copy on two sides of a split that we make, formats, images left out, findings of the doctor."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.datasets import open_dataset
from study.datasets.__main__ import main
from study.datasets.audit import audit
from study.datasets.copies import NEAR_BITS, clusters, difference_hash, near_pairs
from study.datasets.image_scan import look
from study.datasets.imagefiles import decode_file
from study.datasets.label_errors import likely_label_errors
from study.datasets.spec import stratified_split
from study.errors import ConfigError, DataError
from study.inference import pictures
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import Origin
from study.results import run_study
from study.tracking.ledger import Ledger
from tests.own import classes, jpeg, scene

# ---- copies ------------------------------------------------------------------------------------------------


def with_copies(root: Path, seed: int, groups: bool = False) -> Path:
    """Write class folders where some images lie again, in the same class or another: to the pixel, as a worse JPEG, brighter, smaller."""
    rng = np.random.default_rng(seed)
    classes(root, {"a": 25, "b": 30, "c": 15}, first=10_000 * seed)
    files = sorted(root.rglob("*.png"))
    for k, file in enumerate(rng.choice(np.array(files, object), 16, replace=False)):
        into, image = root / "abc"[rng.integers(3)], Image.open(file)
        (into / f"same{k}.png").write_bytes(file.read_bytes())
        (into / f"worse{k}.jpg").write_bytes(jpeg(image, 50))
        image.point(lambda v: min(v + 8, 255)).save(into / f"brighter{k}.png")
        image.resize((40, 30)).save(into / f"smaller{k}.png")
    if groups:
        names = [str(f.relative_to(root)) for f in sorted(root.rglob("*.*"))]
        plant = {n: f"{n[0]}{int(n[2:5]) // 3}" if n[2:5].isdigit() else n.strip(".jpgn")[2:] for n in names}
        (root / "groups.csv").write_text("file,group\n" + "".join(f"{n},{group}\n" for n, group in plant.items()))
    return root


@pytest.mark.parametrize(("seed", "groups"), [(1, False), (2, False), (3, True)])
def test_no_split_of_ours_puts_copies_on_two_sides(seed: int, groups: bool, tmp_path: Path) -> None:
    root = with_copies(tmp_path / "own", seed, groups)
    for fold in range(5):
        table = open_dataset(f"folder:{root}", splits=f"official:{fold}")
        hashes = np.array([difference_hash(table.decode(k)) for k in range(len(table.ids))], np.uint64)
        near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= NEAR_BITS
        a, b = np.nonzero(np.triu(near, 1))
        assert len(a) >= 48, "each of 16 images lies there in five forms" and (table.split[a] == table.split[b]).all()
        assert (table.split[a] == table.split[b]).all()
        report = audit(table)
        assert report.exact_across == 0 and report.near_across == 0 and "copies kept on one side" in table.form
        assert sum(report.counts["test"]) > 8 and sum(report.counts["val"]) > 8 and min(report.counts["train"]) > 0
        if groups:
            assert not set(table.groups[table.split == 0]) & set(table.groups[table.split > 0])


def test_each_image_is_tested_in_one_fold_copies_or_not(tmp_path: Path) -> None:
    root = with_copies(tmp_path, 4)
    tests = [open_dataset(f"folder:{root}", splits=f"official:{k}").split == 2 for k in range(5)]
    assert sum(t.astype(int) for t in tests).tolist() == [1] * len(tests[0])


def test_clusters_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 150, dtype=np.uint64)
    flips = np.array([sum(1 << int(b) for b in rng.choice(64, n, replace=False)) for n in rng.integers(1, 6, 150)], np.uint64)
    hashes = np.concatenate([base, base ^ flips])
    pairs = {(int(a), int(b)) for a, b in itertools.chain(*(zip(*p, strict=True) for p in near_pairs(hashes))) if a != b}
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= NEAR_BITS
    assert pairs == {(int(a), int(b)) for a, b in zip(*np.nonzero(near), strict=True) if a != b}
    found = clusters(np.arange(300), hashes)
    assert all(found[a] == found[b] for a, b in pairs) and len(set(found)) >= 300 - len(pairs) // 2


def test_only_copies_move_the_split_that_classes_alone_would_give(tmp_path: Path) -> None:
    for root, copies in ((classes(tmp_path / "plain", {"a": 20, "b": 20}), False), (with_copies(tmp_path / "copied", 5), True)):
        table = open_dataset(f"folder:{root}")
        plain = dataclasses.replace(table, split=stratified_split(table.labels, None, 0, what=str(root)))
        assert audit(table).exact_across == 0
        assert (audit(plain).exact_across > 0) == copies == (not np.array_equal(table.split, plain.split))


def test_a_study_of_a_folder_with_copies_parts_none_and_records_its_sizes(tmp_path: Path) -> None:
    root = with_copies(tmp_path / "own", 6)
    cells = grid([f"folder:{root}"], ["efficientnet_lite0"], ["linear_probe"])
    study = Study(name="copies", cells=cells, protocol=Protocol(max_epochs=1, warmup_epochs=0, image_size=32), trials=1,
        random_trials=0, grace_epochs=1, confirm_seeds=0)  # fmt: skip
    run_study(study, results=tmp_path, local=True)
    known = Ledger(str(tmp_path), "copies")
    report = known.data_report()[f"folder:{root}@official"]
    assert report["exact_across"] == 0 and report["exact_extra"] >= 16
    # what a page holds the size of its images against is recorded at every start
    assert known.facts()["own_sizes"] == {"efficientnet_lite0": 224}
    assert report["median_side"] == np.median([min(Image.open(f).size) for f in root.rglob("*.*")])


def test_images_that_the_hash_takes_for_one_are_split_all_the_same_and_that_is_said(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(20):  # plain colours: every difference hash is 0
            Image.new("RGB", (16, 16), (6 * k, 255 - 6 * k, 120 if name == "a" else 0)).save(tmp_path / name / f"{k}.png")
    table = open_dataset(f"folder:{tmp_path}")
    assert "alike by their hash are not: too many to be split" in table.form and min(sum(c) for c in table.counts().values()) >= 8


# ---- missing splits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "cut"), [("test", "val"), ("val", "test"), ("Validation", "test")])
def test_a_missing_split_is_cut_from_train(given: str, cut: str, tmp_path: Path) -> None:
    classes(tmp_path / "train", {"a": 20, "b": 30})
    classes(tmp_path / given, {"a": 4, "b": 4}, first=5000)
    copy = tmp_path / "train" / "a" / "000.png"
    (tmp_path / "train" / "b" / "copy.png").write_bytes(copy.read_bytes())
    table = open_dataset(f"folder:{tmp_path}")
    assert f"given split, {cut} cut from train" in table.form and sum(table.counts()[cut]) == pytest.approx(10, abs=1)
    assert {i for i, s in zip(table.ids, table.split, strict=True) if i.startswith(f"{given}/")} == {
        i for i, s in zip(table.ids, table.split, strict=True) if s == (2 if given == "test" else 1)
    }
    split = dict(zip(table.ids, table.split, strict=True))
    assert split["train/a/000.png"] == split["train/b/copy.png"]
    if given == "test":
        with pytest.raises(ConfigError, match="its test split is given, so there is no fold 1"):
            open_dataset(f"folder:{tmp_path}", splits="official:1")
    else:
        assert not np.array_equal(table.split, open_dataset(f"folder:{tmp_path}", splits="official:1").split)


def test_a_missing_split_is_cut_by_groups(tmp_path: Path) -> None:
    classes(tmp_path / "train", {"a": 20, "b": 20})
    classes(tmp_path / "test", {"a": 4, "b": 4}, first=5000)
    names = [str(f.relative_to(tmp_path)) for f in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "groups.csv").write_text("file,group\n" + "".join(f"{n},g{k // 3}\n" for k, n in enumerate(names)))
    table = open_dataset(f"folder:{tmp_path}")
    assert sum(table.counts()["val"]) > 3 and not set(table.groups[table.split == 0]) & set(table.groups[table.split == 1])


def test_a_split_without_train_is_refused(tmp_path: Path) -> None:
    classes(tmp_path / "val", {"a": 4, "b": 4})
    classes(tmp_path / "test", {"a": 4, "b": 4})
    with pytest.raises(DataError, match="no train"):
        open_dataset(f"folder:{tmp_path}")


# ---- formats -----------------------------------------------------------------------------------------------


def test_tiffs_are_read_first_page_scaled_and_said(tmp_path: Path) -> None:
    classes(tmp_path, {"a": 8, "b": 8})
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(ramp).save(tmp_path / "a" / "deep.tif")
    Image.fromarray((ramp // 16).astype(np.uint16)).save(tmp_path / "a" / "camera.tiff", tiffinfo={281: 4095})
    first, second = scene(77), scene(78)
    first.save(tmp_path / "b" / "stack.TIF", save_all=True, append_images=[second])
    table = open_dataset(f"folder:{tmp_path}")
    pixels = {name: table.decode(k) for k, name in enumerate(table.ids)}
    assert np.abs(pixels["a/deep.tif"][..., 0].astype(int) - ramp // 257).max() <= 1
    assert np.abs(pixels["a/camera.tiff"][..., 0].astype(int) - ramp // 257).max() <= 1, "12 bit, as its tag says"
    assert np.array_equal(pixels["b/stack.TIF"], np.asarray(first))
    assert "2 of more than 8 bit, scaled to 8" in table.form and "1 of several pages, the first is taken" in table.form


def tiff(channels: int, bits: int) -> bytes:
    """Return a TIFF of 4 x 4 pixels as microscopes write them, since Pillow writes none of so many channels."""
    import struct

    data = bytes(16 * channels * bits // 8)
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, channels),
        (278, 3, 1, 4), (279, 4, 1, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("channels", "bits"), [(5, 8), (7, 16), (31, 16)])
def test_more_than_four_channels_are_refused_by_name(channels: int, bits: int, tmp_path: Path) -> None:
    (tmp_path / "cells.tif").write_bytes(tiff(channels, bits))
    with pytest.raises(DataError, match=rf"cells\.tif cannot be decoded \({channels} channels are more than 4. Save the three"):
        decode_file(tmp_path / "cells.tif", 3)
    classes(tmp_path / "own", {"a": 20, "b": 20})
    (tmp_path / "own" / "a" / "cells.tif").write_bytes(tiff(channels, bits))
    assert f"{channels} channels are more than 4" in dict(open_dataset(f"folder:{tmp_path / 'own'}").ignored)["a/cells.tif"]


@pytest.mark.parametrize(("suffix", "form"), [(".avif", "AVIF"), (".heic", "HEIF")])
def test_heic_and_avif_are_read_where_a_package_reads_them(suffix: str, form: str, tmp_path: Path, monkeypatch) -> None:
    if form not in pictures.formats():
        pytest.skip(f"no package here reads {form}")
    classes(tmp_path, {"a": 8, "b": 8})
    scene(77).save(tmp_path / "a" / f"phone{suffix}", quality=90)
    table = open_dataset(f"folder:{tmp_path}")
    found = table.decode(table.ids.index(f"a/phone{suffix}"))
    assert np.abs(found.astype(int) - np.asarray(scene(77)).astype(int)).mean() < 12
    monkeypatch.setattr(pictures, "formats", lambda: pictures.FORMATS)
    (_, why) = next(x for x in open_dataset(f"folder:{tmp_path}").ignored if x[0] == f"a/phone{suffix}")
    assert why.startswith(f"{suffix} needs ")


# ---- left out, rare ----------------------------------------------------------------------------------------


def test_a_few_bad_images_are_left_out_by_name_and_many_refuse_the_whole(tmp_path: Path) -> None:
    root = classes(tmp_path, {"a": 20, "b": 20})
    whole = jpeg(scene(5, (200, 200)), 90)
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "page.jpg").write_text("<html>not found</html>")
    scene(8, (5, 40)).save(root / "b" / "thin.png")
    table = open_dataset(f"folder:{root}")
    why = dict(table.ignored)
    assert len(table.ids) == 40 and why["a/cut.jpg"].startswith("corrupt: ") and why["a/page.jpg"] == "corrupt: a web page, not the image"
    assert why["b/thin.png"] == "too small: short side below 8 pixels"
    for k in range(4):
        (root / "b" / f"x{k}.jpg").write_text("no")
    with pytest.raises(DataError, match="6 of the images in .* cannot be read: a/cut.jpg"):
        open_dataset(f"folder:{root}")


def test_a_file_that_changed_is_looked_at_again(tmp_path: Path) -> None:
    root = classes(tmp_path, {"a": 20, "b": 20})
    assert len(open_dataset(f"folder:{root}").ids) == 40
    (root / "a" / "000.png").write_bytes(b"gone")
    assert len(open_dataset(f"folder:{root}").ids) == 39


def test_a_class_with_few_test_images_is_said_before_the_run_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = classes(tmp_path / "own", {"common": 60, "rare": 6})
    (warning,) = [w for w in audit(open_dataset(f"folder:{root}")).warnings if "fewer than 5" in w]
    assert "rare (2)" in warning and "common" not in warning and "add images, merge the class with another one, or leave it out" in warning
    from study.sweep import main as sweep

    assert (
        sweep(["quickstart", "--datasets", f"folder:{root}", "--strategies", "linear_probe", "--results", str(tmp_path), "--dry-run"]) == 0
    )
    assert "fewer than 5 test images of rare (2)" in capsys.readouterr().out


# ---- the doctor --------------------------------------------------------------------------------------------


def test_the_doctor_finds_what_a_person_should_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = classes(tmp_path / "own", {"a": 25, "b": 25})
    scene(3, (480, 360)).save(root / "a" / "huge.png")
    scene(4, (400, 40)).save(root / "a" / "long.png")
    scene(1).point(lambda v: v // 8).save(root / "b" / "night.png")
    Image.new("RGB", (48, 36), (200, 190, 180)).save(root / "b" / "fog.png")
    (root / "b" / "twin.jpg").write_bytes(jpeg(Image.open(root / "a" / "007.png"), 70))
    (root / "b" / "same.png").write_bytes((root / "a" / "009.png").read_bytes())
    page, listed = tmp_path / "page.html", tmp_path / "list.csv"
    assert main(["check", str(root), "--html", str(page), "--csv", str(listed)]) == 0
    found = {tuple(line.split(",")[k] for k in (0, 3)) for line in listed.read_text().splitlines()[1:] if "copy, other" not in line}
    assert {("a/huge.png", "odd size"), ("a/long.png", "odd size"), ("b/night.png", "dark"), ("b/fog.png", "blurred")} <= found
    assert len(found) <= 6, f"the 50 others are like one another: {found}"
    said = capsys.readouterr().out
    copies = {line.split(",", 3)[0]: line.split(",", 3)[3] for line in listed.read_text().splitlines() if '"copy, other label"' in line}
    assert copies == {"a/009.png": '"copy, other label",b/same.png is b', "b/same.png": '"copy, other label",a/009.png is a'}
    assert "2 images have a near-duplicate with another label" in said and "b/twin.jpg" in listed.read_text()
    assert "Worth a look" in page.read_text() and "near copy, other label: " in page.read_text()


def test_likely_label_errors_are_those_that_networks_contradict(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    table = open_dataset(f"folder:{classes(tmp_path, {'a': 50, 'b': 50, 'c': 50})}")
    rng = np.random.default_rng(0)
    val = np.flatnonzero(table.split == 1)
    wrong = val[[3, 11, 20]]
    truth = table.labels.copy()
    truth[wrong] = (truth[wrong] + 1) % 3  # what the networks see
    logits = [4 * np.eye(3)[truth[val]] + rng.normal(0, 0.6, (len(val), 3)) for _ in range(3)]
    found = likely_label_errors(table, [table.ids[k] for k in val], logits)
    assert {s.position for s in found} == set(wrong.tolist()) and all(s.kind == "label" and s.split == "val" for s in found)
    assert f"3 networks say {table.classes[truth[found[0].position]]}" in found[0].detail
    with pytest.raises(DataError, match="has no image x.png"):
        likely_label_errors(table, ["x.png"], [np.zeros((1, 3))])


def test_looks_measure_what_they_say() -> None:
    sharp = np.asarray(scene(1, (300, 200)))
    one, dark = look(sharp), look(sharp // 10)
    assert (one.height, one.width) == (200, 300) and one.bright > 150 > 30 > dark.bright and one.digest != dark.digest
    assert look(np.asarray(scene(1, (12, 9)).resize((300, 200), Image.Resampling.BICUBIC))).sharp <= one.sharp * 1.01
    assert json.dumps(one.hash) and look(sharp).digest == one.digest


def test_a_study_is_not_asked_about_other_labels_than_it_was_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs on changed labels were once averaged with those on the former ones, without a word."""
    root = with_copies(tmp_path / "own", 6)
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    rows = [f"{n},{n.split('/')[0]}" for n in names]
    table = root / "labels.csv"
    table.write_text("\n".join(["image,label", *rows]))
    cells = grid([f"table:{table}"], ["efficientnet_lite0"], ["linear_probe"])
    study = Study(name="s", cells=cells, protocol=Protocol(max_epochs=1, warmup_epochs=0, image_size=32), trials=1, random_trials=0,
        grace_epochs=1, confirm_seeds=1, budget_check=0)  # fmt: skip
    run_study(study, results=tmp_path, local=True)
    other = {"a": "b", "b": "a"}
    first = next(k for k, r in enumerate(rows) if r.endswith(",a"))
    second = next(k for k, r in enumerate(rows) if r.endswith(",b"))
    for k in (first, second):
        rows[k] = rows[k][:-1] + other[rows[k][-1]]
    table.write_text("\n".join(["image,label", *rows]))
    with pytest.raises(
        DataError, match=r"labels or their splits are not those .* was begun with \(2 with another label: .*\); put them back, or ask anew"
    ):
        run_study(dataclasses.replace(study, confirm_seeds=2), results=tmp_path, local=True)
    assert sum(a.origin is not Origin.LINE for a in Ledger(str(tmp_path), "s").asks()) == 2
    run_study(dataclasses.replace(study, name="t"), results=tmp_path, local=True)


def test_a_check_writes_its_list_over_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = with_copies(tmp_path / "own", 6)
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["image,label", *(f"{p},{p.parent.name}" for p in sorted(root.rglob("*.png")))]))
    before = table.read_bytes()
    assert main(["check", f"table:{table}", "--csv", str(table)]) == 2
    assert table.read_bytes() == before and "is no list of an earlier check" in capsys.readouterr().err
    for _ in range(2):
        assert main(["check", f"table:{table}", "--csv", str(tmp_path / "list.csv")]) in (0, 3)
