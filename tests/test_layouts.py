"""Folders that may not be what their place says: splits by other names, misspelt ones, leftovers of devices, folders within classes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from study.datasets import open_dataset
from study.datasets.imagefiles import is_junk
from study.datasets.layout import like_split
from study.errors import DataError
from study.use.images import find_images
from tests.own import classes, scene

CATS = {"cats": 10, "dogs": 10}
BY_OTHER_NAMES = [
    ("training_set", "test_set"), ("train_images", "val_images"), ("dev", "eval"), ("Train2017", "Val2017"), ("trainset", "testset"),
    ("images-train", "images-test"), ("train set", "evaluation"), ("training data", "holdout"), ("development", "hold_out"),
    ("TRN", "TST"),
    ("train_split", "test_split"), ("my_training", "my_validation"), ("trainimages", "testimages"), ("train.1", "train.2"),
]  # fmt: skip
MISSPELT = ["tets", "tst", "tset", "testt", "Tesst", "vaal", "vlidation", "validaton", "vaildation", "trest", "evall", "test_", "tests"]


@pytest.mark.parametrize("names", BY_OTHER_NAMES, ids="-".join)
@pytest.mark.parametrize("deep", [True, False])
def test_splits_by_another_name_are_no_classes(names: tuple[str, str], deep: bool, tmp_path: Path) -> None:
    if deep:
        for k, name in enumerate(names):
            classes(tmp_path / name, CATS, first=5000 * k)
    else:
        classes(tmp_path, dict.fromkeys(names, 10))
    with pytest.raises(DataError, match="train, val .* and test: rename or move") as caught:
        open_dataset(f"folder:{tmp_path}")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("names", [("fold_a", "fold_b"), ("first", "second"), ("camera", "phone"), ("tarin", "tset")], ids="-".join)
def test_folders_that_all_hold_the_same_folders_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    for k, name in enumerate(names):
        classes(tmp_path / name, CATS, first=5000 * k)
    with pytest.raises(DataError, match=r"all of them hold the same folders \(cats, dogs\). Are these the classes\?"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", MISSPELT + [n for pair in BY_OTHER_NAMES for n in pair])
def test_a_split_misspelt_beside_the_others_is_refused_with_what_it_costs(name: str, tmp_path: Path) -> None:
    classes(tmp_path / "train", {"cats": 20, "dogs": 20})
    classes(tmp_path / name, {"cats": 4, "dogs": 5}, first=5000)
    with pytest.raises(DataError, match=r"(?i)lies beside the splits with 9 images that would be left out.*rename or move|each for the"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["unlabelled", "extra", "raw", "backup"])
def test_another_folder_beside_the_splits_is_said_with_what_it_costs(name: str, tmp_path: Path) -> None:
    classes(tmp_path / "train", {"cats": 20, "dogs": 20})
    classes(tmp_path / name, {"cats": 4, "dogs": 5}, first=5000)
    (tmp_path / "docs").mkdir()
    form = open_dataset(f"folder:{tmp_path}").form
    assert "1 (beside the splits, 9 images in it)" in form and "1 (beside the splits)" in form


def test_splits_below_classes_and_classes_beside_their_own_split_are_refused(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        classes(tmp_path / "a" / name, {"train": 8, "test": 4}, first=ord(name[0]) * 100)
    with pytest.raises(DataError, match="test, train lie in class folders. Put them above these"):
        open_dataset(f"folder:{tmp_path / 'a'}")
    classes(tmp_path / "b", CATS)
    classes(tmp_path / "b" / "more", CATS, first=5000)
    with pytest.raises(DataError, match=r"more would be classes, and hold folders named as the classes beside them"):
        open_dataset(f"folder:{tmp_path / 'b'}")


def test_folders_within_a_class_are_its_own_and_that_is_said(tmp_path: Path) -> None:
    for k, name in enumerate(("ash", "oak")):
        classes(tmp_path / name, {"20160101": 6, "20170101": 6}, first=5000 * k)
    form = open_dataset(f"folder:{tmp_path}").form
    assert "; 24 images lie in folders within a class folder, and have its class (20160101, 20170101)" in form
    for name in ("ash", "oak"):
        shutil.move(tmp_path / name / "20160101" / "000.png", tmp_path / name / "first.png")
        shutil.rmtree(tmp_path / name / "20160101")
        shutil.move(tmp_path / name / "20170101", tmp_path / name / f"leaves of {name}")
    assert "; 12 images lie in folders" in open_dataset(f"folder:{tmp_path}").form


@pytest.mark.parametrize("name", ["train station", "test tube", "valley", "devil", "trainer", "protest", "setter", "dataset", "photos"])
def test_words_that_hold_a_splits_letters_are_classes(name: str, tmp_path: Path) -> None:
    assert not like_split(name)
    assert open_dataset(f"folder:{classes(tmp_path, {name: 8, 'other': 8})}").classes == tuple(sorted(("other", name)))


LEFT = {
    "a network drive": ("@eaDir", "#recycle", "@Recycle", "@tmp", "@__thumb", "#snapshot", "@Recently-Snapshot"),
    "a system": ("$RECYCLE.BIN", "System Volume Information", "RECYCLER", "lost+found", "__MACOSX", ".Trashes", "FOUND.000"),
    "thumbnails": ("Thumbs", "thumbnails", ".thumbnails", "_thumbs"),
}
JUNK = [name for names in LEFT.values() for name in names]


def _in_class(root: Path, name: str) -> Path:
    return root / "cats" / name / "i0.png"


def _beside(root: Path, name: str) -> Path:
    return root / name


@pytest.mark.parametrize("place", [_in_class, _beside])
@pytest.mark.parametrize("name", JUNK)
def test_what_devices_leave_is_no_image(name: str, place: Callable[[Path, str], Path], tmp_path: Path) -> None:
    root = classes(tmp_path / "own", CATS)
    classes(place(root, name), {"SYNOPHOTO": 3}, first=7000)
    table = open_dataset(f"folder:{root}")
    assert table.classes == ("cats", "dogs") and len(table.ids) == 20 and "left there by a system, a device" in table.form
    assert len(find_images([root]).images) == 20, "predict reads the same"


@pytest.mark.parametrize("name", ["SYNOPHOTO_THUMB_M.jpg", "Thumbs.db", "ehthumbs.db", "desktop.ini", "~$list.jpg", "._a.jpg", "Icon\r"])
def test_files_that_devices_leave_are_junk(name: str) -> None:
    assert is_junk(name) and not is_junk("thumb.jpg") and not is_junk("#1") and not is_junk("@home")


# ---- folders of files, not of classes -------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["masks", "labels", "Annotations", "SegmentationClass", "image_masks", "ground_truth", "depth"])
@pytest.mark.parametrize("images", ["images", "JPEGImages", "img", "rgb"])
@pytest.mark.parametrize("top", ["", "train"])
def test_images_and_their_masks_are_no_classes(images: str, beside: str, top: str, tmp_path: Path) -> None:
    classes(tmp_path / top, {images: 6, beside: 6})
    with pytest.raises(DataError, match=f"{images}, {beside} would be classes, and their names say what the files are"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("names", [("mask", "no mask"), ("photo", "sketch"), ("depth charge", "photo"), ("labels", "boxes")])
def test_names_of_things_are_classes(names: tuple[str, str], tmp_path: Path) -> None:
    classes(tmp_path, dict.fromkeys(names, 6))
    assert set(open_dataset(f"folder:{tmp_path}").classes) == set(names)


def test_a_class_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    classes(tmp_path, {"ash": 6, "oak": 6})
    (tmp_path / "elm").mkdir()
    for name in ("a.txt", "b.txt", "c.npy"):
        (tmp_path / "elm" / name).write_text("x")
    with pytest.raises(DataError, match=r"elm holds no images \(2 \.txt, 1 \.npy\). Remove the folder"):
        open_dataset(f"folder:{tmp_path}")


def test_a_split_of_images_without_classes_is_told_so(tmp_path: Path) -> None:
    classes(tmp_path / "train", {"ash": 6, "oak": 6})
    (tmp_path / "test").mkdir()
    for k in range(3):
        scene(900 + k).save(tmp_path / "test" / f"{k}.png")
    with pytest.raises(DataError, match=r"the test split holds no image of a class \(3 lie in it directly\).* have it cut from train"):
        open_dataset(f"folder:{tmp_path}")


def test_a_class_that_was_left_out_is_said_where_one_alone_is_left(tmp_path: Path) -> None:
    classes(tmp_path, {"ash": 6, ".oak": 6})
    with pytest.raises(DataError, match=r"one class only \(ash; left out: 1 \("):
        open_dataset(f"folder:{tmp_path}")


# ---- groups of a folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{c}/{k}", "./{c}/{k}", "{c}\\{k}", "{root}/{c}/{k}", "{c}//{k}"])
def test_groups_name_images_by_any_spelling_of_their_path(form: str, tmp_path: Path) -> None:
    classes(tmp_path, {"ash": 6, "oak": 6})
    rows = [f"{form.format(root=tmp_path, c=c, k=f'{k:03d}.png')},g{k}" for c in ("ash", "oak") for k in range(6)]
    (tmp_path / "groups.csv").write_text("\n".join(["file,group", *rows]))
    groups = open_dataset(f"folder:{tmp_path}").groups
    assert groups is not None and len(set(groups.tolist())) == 6


def test_groups_of_files_that_are_not_here_are_shown_beside_those_that_are(tmp_path: Path) -> None:
    classes(tmp_path, {"ash": 6, "oak": 6})
    (tmp_path / "groups.csv").write_text("file,group\n000.png,g0\n")
    with pytest.raises(DataError, match=r"12 images have no group: ash/000\.png, .*Its rows name 000\.png, which is not here"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "groups.csv").write_text("file,group\nash/000.png,nan\n")
    with pytest.raises(DataError, match="groups.csv:2: group is 'nan'. It must be a name"):
        open_dataset(f"folder:{tmp_path}")
