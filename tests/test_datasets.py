"""Laws over every data set, and the forms in which people have FER2013."""

import bz2
import gzip
import hashlib
import multiprocessing
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.datasets import CATALOG, open_dataset, subsample
from study.datasets.audit import audit
from study.datasets.cache import decoded, pixels
from study.datasets.fer2013 import CLASSES, read_csv, read_folders
from study.errors import ConfigError, DataError
from study.inference.pictures import square

AT_HAND = [(n, s) for n in ("digits", "mini_faces", "mini_weeds") for s in CATALOG[n].split_protocols]


@pytest.mark.parametrize(("name", "splits"), AT_HAND)
def test_laws(name: str, splits: str) -> None:
    """Splits are disjoint and complete, labels in range, every class in train, names unique, and all the same again the next time."""
    table, again = open_dataset(name, splits=splits), open_dataset(name, splits=splits)
    assert len(set(table.ids)) == len(table.ids) == len(table.labels) == len(table.split)
    assert table.labels.min() >= 0 and table.labels.max() < len(table.classes)
    assert set(table.split) == {0, 1, 2}
    assert set(table.labels[table.split == 0]) == set(range(len(table.classes)))
    assert table.fingerprint == again.fingerprint and np.array_equal(table.split, again.split)
    image = table.decode(0)
    assert image.dtype == np.uint8 and image.shape[-1] == table.channels
    if splits.startswith("session"):
        parts = [set(table.groups[table.split == k]) for k in range(3)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


@pytest.mark.parametrize("protocol", ["official", "session"])
def test_folds_test_every_image_once(protocol: str) -> None:
    tests = [open_dataset("mini_weeds", splits=f"{protocol}:{k}") for k in range(5)]
    assert sum((t.split == 2).astype(int) for t in tests).tolist() == [1] * len(tests[0].ids)


def test_training_fractions_are_nested_and_stratified() -> None:
    table = open_dataset("mini_faces")
    small, large = subsample(table, 0.1), subsample(table, 0.5)
    a, b = (set(np.flatnonzero(t.split == 0)) for t in (small, large))
    assert a < b and set(table.labels[list(a)]) == set(range(7))
    assert np.array_equal(small.split[table.split > 0], table.split[table.split > 0])


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("mini_faces", "e1680a0bb6bb937ead6b8614d252026b43af102ca60a934982559a9b2fb3bad3"),
        ("mini_weeds", "dd737a10ec096e0b183a263eab805ddb24825b94f3bb1cb1ea8a96913749c215"),
    ],
)
def test_miniatures_are_the_same_on_every_machine(name: str, digest: str) -> None:
    table = open_dataset(name)
    found = hashlib.sha256(b"".join(table.decode(k).tobytes() for k in range(len(table.ids)))).hexdigest()
    assert found == digest, "the drawings changed: raise miniatures.VERSIONS and set the new digest"


def _build(folder: str, queue) -> None:
    array = pixels(open_dataset("digits"), 8, Path(folder))
    queue.put((int(array.sum()), Path(folder, "pixels").stat().st_ino))


def test_the_pixel_cache_is_safe_when_two_build_it_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_build, args=(str(tmp_path), queue)) for _ in range(2)]
    [w.start() for w in workers]
    a, b = queue.get(timeout=60), queue.get(timeout=60)
    [w.join(10) for w in workers]
    assert a == b and len(list((tmp_path / "pixels").glob("*.npy"))) == 1 and not list((tmp_path / "pixels").glob("*.tmp"))
    array = pixels(open_dataset("digits"), 100, tmp_path)
    assert array.shape[1] == 8, "never upsampled" and isinstance(array, np.memmap)


def test_threads_decode_what_one_decodes_in_its_order(tmp_path: Path) -> None:
    """A reader that stops also stops the threads, and the first image that cannot be read is the one that is named."""
    rng = np.random.default_rng(0)
    for k in range(70):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / "ab"[k % 2] / f"{k:02}.png")
    table = open_dataset(f"folder:{tmp_path}")
    one, many = (np.concatenate(list(decoded(table, 16, threads))) for threads in (1, 3))
    assert one.shape == (70, 16, 16, 3) and np.array_equal(one, many)
    assert np.array_equal(many[40], square(table.decode(40), 16))

    asked: list[int] = []
    with closing(decoded(replace(table, decode=lambda k: (asked.append(k), table.decode(k))[1]), 16, 1)) as blocks:
        next(blocks)
    assert len(asked) < 70, "nobody waited for the rest"
    for k in (50, 20):
        Path(tmp_path, *table.ids[k].split("/")).write_bytes(b"no image")
    with pytest.raises(DataError, match=Path(table.ids[20]).name):
        list(decoded(table, 16, 3))


# ---- FER2013's forms ---------------------------------------------------------------------------------------


def rows(per: int = 6) -> list[tuple[int, str, str]]:
    rng = np.random.default_rng(0)
    out = []
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for label in range(7):
            for _ in range(per):
                out.append((label, " ".join(map(str, rng.integers(0, 256, 48 * 48))), usage))
    return out


def test_every_csv_form_gives_the_same_images(tmp_path: Path) -> None:
    data = rows(2)
    original = "emotion,pixels,Usage\n" + "".join(f"{e},{p},{u}\n" for e, p, u in data)
    forms = {
        "fer2013.csv": original.encode(),
        "icml_face_data.csv": ("emotion, Usage, pixels\n" + "".join(f"{e},{u},{p}\n" for e, p, u in data)).encode(),
        "bom.csv": b"\xef\xbb\xbf" + original.replace("\n", "\r\n").encode(),
        "quoted.csv": ("emotion,pixels,Usage,extra\n" + "".join(f'{e},"{p}",{u},x\n' for e, p, u in data)).encode(),
        "a.csv.gz": gzip.compress(original.encode()),
        "a.csv.bz2": bz2.compress(original.encode()),
    }
    tables = []
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        tables.append(read_csv(tmp_path / name))
    for t in tables:
        assert t.classes == CLASSES and np.array_equal(t.labels, tables[0].labels) and np.array_equal(t.split, tables[0].split)
        assert all(np.array_equal(t.decode(k), tables[0].decode(k)) for k in (0, 17, 41))
    (tmp_path / "train.csv").write_text("emotion,pixels\n" + "".join(f"{e},{p}\n" for e, p, u in rows() if u == "Training"))
    assert "own stratified" in read_csv(tmp_path / "train.csv").form


def test_the_folder_form_maps_classes_by_name_and_keeps_the_official_split(tmp_path: Path) -> None:
    for top, usages in (("train", ["Training"]), ("test", ["PublicTest", "PrivateTest"])):
        for name in CLASSES:
            folder = tmp_path / top / name
            folder.mkdir(parents=True)
            for usage in usages:
                Image.fromarray(np.full((48, 48), CLASSES.index(name) * 30, np.uint8)).save(folder / f"{usage}_1.jpg")
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    table = read_folders(tmp_path)
    assert [int(table.labels[k]) for k in range(7)] == sorted(int(y) for y in range(7)) or set(table.labels) == set(range(7))
    for k, image in enumerate(table.ids):
        assert CLASSES[table.labels[k]] in image
        assert ("Training", "PublicTest", "PrivateTest")[table.split[k]] in image


def _with_votes(folder: Path, votes: list[list[int]]) -> None:
    (folder / "fer2013new.csv").write_text("Usage,Image name," + ",".join(f"v{k}"
        for k in range(10)) + "\n" + "".join(f"Training,x.png,{','.join(map(str, row))}\n" for row in votes))  # fmt: skip


def test_votes_become_soft_targets_and_disputes_are_known(tmp_path: Path) -> None:
    """There are three training faces (sure, undecided, a non-face), one each to validate and test. FER2013 calls all of them angry."""
    usages = ["Training", "Training", "Training", "PublicTest", "PrivateTest"]
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(f"0,{' '.join(['7'] * 2304)},{u}\n" for u in usages))
    happy, undecided, none = [0, 9, 0, 0, 1, 0, 0, 0, 0, 0], [4, 0, 0, 2, 4, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 9]
    _with_votes(tmp_path, [happy, undecided, none, undecided, happy])
    table = read_csv(tmp_path / "fer2013.csv", "ferplus_votes")
    assert table.soft is not None and list(table.split) == [0, 0, -1, -1, 2] and table.classes[1] == "happiness"
    assert table.soft[0] == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0]), "a single vote is dropped, as in the majority rule"
    assert table.soft[1] == pytest.approx([0.4, 0, 0, 0.2, 0.4, 0, 0, 0])
    official = read_csv(tmp_path / "fer2013.csv")
    assert official.second is not None and list(official.second) == [3, -1, -1, -1, 3] and "2 labels disputed" in official.form
    (tmp_path / "fer2013new.csv").write_text("Usage,Image name,a\n")
    assert read_csv(tmp_path / "fer2013.csv").second is None, "votes of other images say nothing"


def test_ferplus_votes_make_labels_by_the_majority_rule(tmp_path: Path) -> None:
    data = rows(1)
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(f"{e},{p},{u}\n" for e, p, u in data))
    votes = ["8,2,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10", "3,3,4,0,0,0,0,0,0,0"]
    body = "".join(f"{u},f{k}.png,{votes[k % 3]}\n" for k, (_, _, u) in enumerate(data))
    (tmp_path / "fer2013new.csv").write_text(
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n" + body
    )
    table = read_csv(tmp_path / "fer2013.csv", "ferplus")
    assert len(table.classes) == 8 and table.labels[0] == 0 and table.split[0] == 0
    assert table.split[1] == -1 and table.split[2] == -1


def test_real_subsets_have_the_published_shape(real: Path) -> None:
    fer, weeds = open_dataset("fer2013", root=real), open_dataset("deepweeds", root=real)
    assert fer.counts()["test"] == [103, 11, 110, 184, 124, 87, 131]
    assert weeds.counts()["train"] == [46, 44, 42, 42, 44, 41, 44, 42, 375]
    report = audit(fer)
    assert (report.exact_extra, report.exact_across) == (67, 23)
    report = audit(weeds)
    assert report.metadata_accuracy > 0.9 and report.sessions_shared and "use @session" in report.warnings[-1], (
        "the leak in the official folds"
    )


# ---- users' folders ------------------------------------------------------------------------------------------


def folder(root: Path, classes: dict[str, int], size: int = 12) -> Path:
    rng = np.random.default_rng(1)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(root / name / f"{k:03d}.png")
    return root


def test_a_folder_of_class_folders_is_split_and_groups_stay_together(tmp_path: Path) -> None:
    root = folder(tmp_path, {"cat": 20, "dog": 20})
    lines = "".join(f"{c}/{k:03d}.png,{c}{k // 4}\n" for c in ("cat", "dog") for k in range(20))
    (root / "groups.csv").write_text("file,group\n" + lines)
    table = open_dataset(f"folder:{root}")
    parts = [set(table.groups[table.split == k]) for k in range(3)]
    assert table.classes == ("cat", "dog") and all(parts) and not parts[0] & parts[2] and not parts[0] & parts[1]


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for k, name in enumerate(("train", "val", "test")):
        folder(tmp_path / name, {"a": 3 + k, "b": 3 + k})
    assert [sum(c) for c in open_dataset(f"folder:{tmp_path}").counts().values()] == [6, 8, 10]


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="fer2013"):
        open_dataset("fer203")
    with pytest.raises(ConfigError, match="session"):
        open_dataset("mini_weeds", splits="sessions")
    with pytest.raises(ConfigError, match=r"folds 0\.\.4"):
        open_dataset("mini_weeds", splits="official:7")
    with pytest.raises(DataError, match="--data"):
        open_dataset("fer2013")


def test_the_doctor_counts_copies_conflicts_and_leaks(tmp_path: Path) -> None:
    root = folder(tmp_path / "whole", {"a": 10, "b": 10})
    table = open_dataset(f"folder:{root}")
    first_train = table.ids[int(np.flatnonzero(table.split == 0)[0])]
    held = table.ids[int(np.flatnonzero(table.split == 2)[-1])]
    (root / held).write_bytes((root / first_train).read_bytes())
    assert audit(open_dataset(f"folder:{root}")).exact_across == 0, "a split of ours parts no copies"
    given = tmp_path / "given"
    for size, split in enumerate(("train", "val", "test"), 12):
        folder(given / split, {"a": 6, "b": 6}, size)
    (given / "test" / "b" / "000.png").write_bytes((given / "train" / "a" / "000.png").read_bytes())
    report = audit(open_dataset(f"folder:{given}"))
    assert report.exact_extra == 1 and report.exact_across == 1 and report.conflicts == 1
    assert any("pixel for pixel" in w for w in report.warnings)
    weeds = audit(open_dataset("mini_weeds"))
    assert weeds.metadata_accuracy > weeds.majority_accuracy + 0.2
