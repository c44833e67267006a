"""Advice in refusals of data is followed here: it must read the data, or say something else."""

import csv
import itertools
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.datasets import no_images, open_dataset
from study.datasets.__main__ import main as datasets
from study.datasets.manifest import NAMES, find_columns
from study.errors import ConfigError, StudyError
from tests.own import scene

COUNT = 12
LABELS = ["ash", "oak"]


def refusal(name: str) -> str:
    with pytest.raises(StudyError) as error:
        open_dataset(name)
    return str(error.value)


def advised(message: str) -> str:
    """Return the data set that a message advises to give instead."""
    found = re.search(r"'((?:table|folder):[^']+)'", message)
    assert found, message
    return found[1]


def write(path: Path, rows: list[list[str]], header: list[str] | None = None) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*([header] if header else []), *rows])
    return f"table:{path}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twelve pictures, in files with unusual names."""
    root = tmp_path_factory.mktemp("pictures")
    for k in range(COUNT):
        scene(k).save(root / f"Fläche_{k:02d}.png")
    return root


# ---- where files lie ------------------------------------------------------------------------------------------

LISTED: dict[str, Callable[[str], str]] = {
    "kaggle": lambda n: f"/kaggle/input/x/images/{n}",
    "colab": lambda n: f"/content/drive/My Drive/x/{n}",
    "windows": lambda n: f"C:\\Users\\me\\images\\{n}",
    "share": lambda n: f"\\\\server\\images\\{n}",
    "above": lambda n: f"../../other/{n}",
    "upper suffix": lambda n: n.replace(".png", ".PNG"),
    "lower": str.lower,
    "decomposed": lambda n: unicodedata.normalize("NFD", n),
    "no suffix, elsewhere": lambda n: f"/data/{n.removesuffix('.png')}",
    "plain": str,
}
FOLDERS = ("images", "pics & more", "set 50%", "a/b/deep", "Bilder ä", "x=y", "plus+", "q#1")


@pytest.mark.parametrize(("listed", "folder"), list(itertools.product(LISTED, FOLDERS)))
def test_files_are_found_by_what_is_left_of_their_names(listed: str, folder: str, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / folder)
    names = sorted(p.name for p in pictures.iterdir())
    name = write(tmp_path / "labels.csv", [[LISTED[listed](n), LABELS[k % 2]] for k, n in enumerate(names)], ["file", "species"])
    if (listed, folder) == ("plain", "images") or (listed == "decomposed" and folder == "images" and _composes(tmp_path)):
        assert len(open_dataset(name).ids) == COUNT
        return
    message = refusal(name)
    assert f"{COUNT} of {COUNT} lie in {tmp_path / folder}" in message
    table = open_dataset(advised(message))
    assert len(table.ids) == COUNT and [table.classes[k] for k in table.labels] == [LABELS[k % 2] for k in range(COUNT)]
    assert np.array_equal(table.decode(0), np.asarray(scene(0).convert("RGB"))), "its own picture, not another's"


def _composes(place: Path) -> bool:
    """Return True where the file system takes both spellings for one, as a Mac's does."""
    (place / unicodedata.normalize("NFC", "probe-ä")).touch()
    return (place / unicodedata.normalize("NFD", "probe-ä")).exists()


def test_folders_that_the_names_do_not_share_are_kept_apart(pictures: Path, tmp_path: Path) -> None:
    """The file cats/1.png is never taken for dogs/1.png, whatever lies there."""
    files = sorted(pictures.iterdir())
    for k, file in enumerate(files):
        place = tmp_path / "pics" / LABELS[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"{k // 2}.png")
    rows = [[f"/kaggle/input/{LABELS[k % 2]}/{k // 2}.png", LABELS[k % 2]] for k in range(COUNT)]
    table = open_dataset(advised(refusal(write(tmp_path / "labels.csv", rows, ["file", "label"]))))
    assert len(table.ids) == COUNT and all(
        table.classes[label] == Path(i).parent.name for i, label in zip(table.ids, table.labels, strict=True)
    )
    shutil.rmtree(tmp_path / "pics" / "oak")
    message = refusal(write(tmp_path / "labels.csv", rows, ["file", "label"]))
    assert f"{COUNT // 2} of {COUNT} lie in" in message
    assert "one class only (ash; left out: 6 (no such file))" in refusal(advised(message))


def test_two_files_of_one_name_are_nobodys(pictures: Path, tmp_path: Path) -> None:
    for place in ("one", "two"):
        shutil.copytree(pictures, tmp_path / "x" / place)
    names = sorted(p.name for p in pictures.iterdir())
    name = write(tmp_path / "labels.csv", [[f"/gone/{n}", LABELS[k % 2]] for k, n in enumerate(names)], ["file", "label"])
    assert "?images=x/two" in advised(refusal(name))
    assert "are not there" in refusal(f"{name}?images=x"), "which of the two is not ours to choose"
    assert len(open_dataset(f"{name}?images=x/two").ids) == COUNT


def test_options_that_were_given_stay_in_the_advice(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "elsewhere")
    rows = [[f"/gone/{p.name}", "x", LABELS[k % 2]] for k, p in enumerate(sorted(pictures.iterdir()))]
    name = write(tmp_path / "labels.csv", rows, ["file", "label", "my kind"])
    table = open_dataset(advised(refusal(f"{name}?label=my%20kind")))
    assert sorted(table.classes) == LABELS
    bare = write(
        tmp_path / "bare.csv",
        [[p.name, *r[1:]] for p, r in zip(sorted(pictures.iterdir()), rows, strict=True)],
        ["file", "note", "my kind"],
    )
    message = refusal(f"{bare}?images=elsewhere")
    found = re.search(r"Say it: (\S+\?images=elsewhere&label=)COLUMN\.$", message)
    assert found, message
    assert len(open_dataset(f"{found[1]}my kind").ids) == COUNT


def test_each_step_of_looking_for_a_folder_says_something_else(pictures: Path, tmp_path: Path) -> None:
    names = sorted(p.name for p in pictures.iterdir())
    name = write(tmp_path / "labels.csv", [[n.replace("Fläche", "field"), LABELS[k % 2]] for k, n in enumerate(names)], ["file", "label"])
    shutil.copytree(pictures, tmp_path / "images")
    (tmp_path / "empty").mkdir()
    said = [refusal(name), *(refusal(f"{name}?images={place}") for place in ("nowhere", "empty", "images"))]
    assert "?images=FOLDER" in said[0] and "is no folder" in said[1] and "there is no image" in said[2] and "Fläche_00.png" in said[3]
    assert len(set(said)) == 4 and not any("?images=FOLDER" in s for s in said[1:])


@pytest.mark.parametrize("width", [1, 4, 12])
@pytest.mark.parametrize("ahead", [True, False])
def test_numbers_are_their_files_whatever_zeros_are_before_them(width: int, ahead: bool, pictures: Path, tmp_path: Path) -> None:
    """COCO's tables say 139, and its files are called 000000000139.jpg."""
    (tmp_path / "images").mkdir()
    for k, file in enumerate(sorted(pictures.iterdir())):
        shutil.copy(file, tmp_path / "images" / f"{7 * k:0{width}d}.png")
    ids = [f"{'x/' * ahead}{7 * k}" for k in range(COUNT)]
    name = write(tmp_path / "labels.csv", [[n, LABELS[k % 2]] for k, n in enumerate(ids)], ["image_id", "label"])
    if width == 1 and not ahead:
        assert len(open_dataset(name).ids) == COUNT
        return
    assert advised(refusal(name)) == f"{name}?images=images"
    assert len(open_dataset(f"{name}?images=images").ids) == COUNT


@pytest.mark.parametrize(
    "change", [lambda n: n.replace("png", "jpg"), lambda n: f"'{n}'", lambda n: f"{n}?x=1", lambda n: f"[{n}]", lambda n: "%20" + n]
)
def test_names_that_are_nearly_those_of_files_are_shown_beside_them(change: Callable[[str], str], pictures: Path, tmp_path: Path) -> None:
    names = sorted(p.name for p in pictures.iterdir())
    shutil.copytree(pictures, tmp_path / "images")
    name = write(tmp_path / "labels.csv", [[change(n), LABELS[k % 2]] for k, n in enumerate(names)], ["file", "label"])
    said = refusal(name)
    assert f"In {tmp_path}/images there are Fläche_00.png, Fläche_01.png and 10 more. Call the files in the table as they are" in said


@pytest.mark.parametrize("tail", ["@nosuch", "@official:x", "&label=species", "#x"])
def test_what_is_written_behind_a_table_is_told_how(tail: str, pictures: Path, tmp_path: Path) -> None:
    name = write(tmp_path / "labels.csv", [["a.png", "a"]], ["file", "label"])
    said = refusal(f"{name}{tail}")
    if tail == "@nosuch":
        assert "'nosuch' is no split protocol of your own images" in said and said.endswith("labels.csv.")
        return
    assert f"what is {tail}?" in said and ("@official:1" if tail[0] == "@" else "ptions begin with ?") in said


def test_an_option_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    assert "label is given twice, species and kind. Keep one" in refusal(f"table:{tmp_path}/l.csv?label=species&image=x&label=kind")
    assert "does not exist" in refusal(f"table:{tmp_path}/l.csv?label=species&label=species")


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("table", "lables.csv"), ("table", "labels.cvs"), ("folder", "imagse"), ("folder", "Images2")],
)
def test_a_slip_is_told_what_lies_beside_it(kind: str, asked: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text("file,label\n")
    there = "labels.csv" if kind == "table" else "images"
    said = refusal(f"{kind}:{tmp_path}/{asked}")
    assert f"does not exist ({there} does)" in said or ".cvs is no table" in said


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_bare_path_is_told_how_it_is_named(kind: str, pictures: Path, tmp_path: Path) -> None:
    for k, file in enumerate(sorted(pictures.iterdir())):
        (tmp_path / "d" / LABELS[k % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "d" / LABELS[k % 2])
    write(tmp_path / "l.csv", [[f"d/{c}/{p.name}", c] for c in LABELS for p in sorted((tmp_path / "d" / c).iterdir())], ["file", "label"])
    where = tmp_path / ("d" if kind == "folder" else "l.csv")
    said = refusal(str(where))
    name = f"{'folder' if kind == 'folder' else 'table'}:{where}"
    assert (
        said.endswith(f"is a {kind} here, and a data set of your own is named by what it is: {name}.")
        and len(open_dataset(name).ids) == COUNT
    )


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "photos.7z"])
def test_an_archive_is_to_be_unpacked(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    assert "is an archive. Unpack it" in refusal(f"folder:{tmp_path}/{name}")
    assert f"{name} is an archive: unpack it" in refusal(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "table", "hf"])
def test_a_home_folder_is_one_behind_a_colon_too(kind: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for k, file in enumerate(sorted(pictures.iterdir())):
        (tmp_path / "d" / LABELS[k % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "d" / LABELS[k % 2])
    write(
        tmp_path / "d" / "l.csv",
        [[f"{c}/{p.name}", c] for c in LABELS[:2] for p in sorted((tmp_path / "d" / c).iterdir())],
        ["file", "label"],
    )
    where = "~/d/l.csv" if kind == "table" else "~/d"
    assert len(open_dataset(f"{kind}:{where}").ids) == COUNT


def test_addresses_and_empty_columns_are_named_as_what_they_are(pictures: Path, tmp_path: Path) -> None:
    urls = write(tmp_path / "a.csv", [[f"https://x.org/{k}.jpg", LABELS[k % 2]] for k in range(COUNT)], ["image", "label"])
    assert "are addresses (https://x.org/0.jpg)" in refusal(urls)
    empty = write(tmp_path / "b.csv", [[f"{k}.jpg", ""] for k in range(COUNT)], ["image", "label"])
    assert "12 (no label)" in refusal(empty)


# ---- shapes of tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(("file", "label", "more"))))
def test_a_table_without_header_reads_with_the_line_that_is_advised(
    order: tuple[str, ...], suffix: bool, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "images")
    rows = []
    for k, p in enumerate(sorted(pictures.iterdir())):
        own = {"file": p.name if suffix else p.stem, "label": LABELS[k % 2], "more": f"note {k}"}
        rows.append([own[column] for column in order])
    name = write(tmp_path / "labels.csv", rows)
    for option in ("", "?image=" + rows[0][order.index("file")] + "&label=" + rows[0][order.index("label")]):
        if suffix or not option:
            assert "is a row, not the names of the columns" in refusal(name + option)
    line = re.search(r"that names them, as (\S+)$", refusal(name))
    assert line
    columns = line[1].split(",")
    assert columns[order.index("file")] == "image" and sorted(columns, key=len)[-1].startswith("column")
    path = tmp_path / "labels.csv"
    path.write_text(line[1] + "\n" + path.read_text())
    label = next(c for c, what in zip(columns, order, strict=True) if what == "label")
    assert len(open_dataset(f"{name}?label={label}").ids) == COUNT, "no row is lost"


@pytest.mark.parametrize("names", [n for known in NAMES.values() for n in known])
def test_no_name_of_a_column_is_taken_for_an_image(names: str, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "images")
    for known in ("image", "file", names):
        shutil.copy(next(iter(sorted(pictures.iterdir()))), tmp_path / "images" / f"{known}.png")
    rows = [[p.name, LABELS[k % 2], ""] for k, p in enumerate(sorted(pictures.iterdir()))]
    header = ["file", "label", "other" if names in ("file", "label") else names]
    try:
        open_dataset(write(tmp_path / "labels.csv", rows, header))
    except StudyError as error:
        assert "is a row" not in str(error)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("quoted", [True, False])
def test_the_line_by_which_excel_says_its_separator_is_no_header(sep: str, quoted: bool, pictures: Path, tmp_path: Path) -> None:
    line = f"sep={sep}"
    rows = [f"{p}{sep}{LABELS[k % 2]}" for k, p in enumerate(sorted(pictures.iterdir()))]
    (tmp_path / "labels.csv").write_text("\n".join([f'"{line}"' if quoted else line, f"file{sep}label", *rows]) + "\n")
    assert len(open_dataset(f"table:{tmp_path / 'labels.csv'}").ids) == COUNT


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.integers(0, 3), min_size=4, max_size=12),
    words=st.sampled_from([("0", "1"), ("0.0", "1.0"), ("False", "True"), ("", "1")]),
    classes=st.integers(2, 4),
)
def test_one_column_a_class_is_told_by_its_ones(labels: list[int], words: tuple[str, str], classes: int, tmp_path: Path) -> None:
    header = ["file", *(f"class{c}" for c in range(classes))]
    rows = [[f"{k}.png", *(words[c == label % classes] for c in range(classes))] for k, label in enumerate(labels)]
    message = refusal(write(tmp_path / "hot.csv", rows, header))
    if words[0] or len({label % classes for label in labels}) > 1:  # an empty column is none of 0 and 1
        assert "one-hot" in message and "?label=" not in message
    rows[0][1:] = [words[1]] * classes
    message = refusal(write(tmp_path / "multi.csv", rows, header))
    assert classes < 3 or "not one 1 a row" in message


def test_one_hot_columns_read_once_their_names_stand_in_one(pictures: Path, tmp_path: Path) -> None:
    files = sorted(map(str, pictures.iterdir()))
    hot = write(tmp_path / "hot.csv", [[f, str(int(k % 2 == 0)), str(k % 2)] for k, f in enumerate(files)], ["file", *LABELS])
    assert "Write the name of that column into one column, label" in refusal(hot)
    with open(tmp_path / "hot.csv", newline="") as file:
        rows = [[row["file"], next(c for c in LABELS if row[c] == "1")] for row in csv.DictReader(file)]
    assert len(open_dataset(write(tmp_path / "named.csv", rows, ["file", "label"])).ids) == COUNT


def test_one_column_said_as_the_label_is_said_to_be_one_of_several(tmp_path: Path) -> None:
    put(tmp_path, *(f"{k}.png" for k in range(18)))
    rows = [[f"{k}.png", *(str(int(k % 3 == c)) for c in range(3))] for k in range(18)]
    name = write(tmp_path / "hot.csv", rows, ["file", "cat", "dog", "cow"])
    assert "label cat is one of 3 columns with one 1 a row" in open_dataset(f"{name}?label=cat").form


def test_one_column_alone_needs_another(tmp_path: Path) -> None:
    name = write(tmp_path / "one.csv", [["a.png"], ["b.png"]], ["file"])
    assert "has one column alone (file)" in refusal(name)
    (tmp_path / "two.csv").write_text("file label\na.png ash\nb.png oak\n")
    assert "has one column alone (file label)" in refusal(f"table:{tmp_path / 'two.csv'}")


def test_what_python_holds_is_told_how_python_says_it() -> None:
    with pytest.raises(ConfigError, match=r'columns=\{"label": "COLUMN"\}'):
        find_columns(["file", "what"], {}, "own_dataset")
    assert find_columns(["file", "what"], {"label": "what"}, "own_dataset")["label"] == "what"


# ---- layouts --------------------------------------------------------------------------------------------------


def put(root: Path, *files: str) -> Path:
    for k, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(k).save(path)
    return root


BY_CLASS = [f"{c}/{k}.png" for c in LABELS for k in range(6)]
BY_SPLIT = [f"{s}/{c}/{k}.png" for s in ("train", "val", "test") for c in LABELS for k in range(3)]


@pytest.mark.parametrize("files", [BY_CLASS, BY_SPLIT], ids=["classes", "splits"])
@pytest.mark.parametrize("wrapper", ["dataset", "Data", "archive/dataset", "a b/c/d", "flowers-v2/x/y"])
def test_a_folder_too_high_is_told_which_one_to_give(files: list[str], wrapper: str, tmp_path: Path) -> None:
    put(tmp_path / "D" / wrapper, *files)
    message = refusal(f"folder:{tmp_path / 'D'}")
    assert len(open_dataset(advised(message)).ids) == len(files)


@pytest.mark.parametrize("name", ["train", "test", "val", "Train", "validation"])
def test_a_class_that_is_called_as_a_split_is_named_and_another_name_helps(name: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"{c}/{k}.png" for c in ("bus", "car", name) for k in range(6)))
    message = refusal(f"folder:{tmp_path}")
    assert f"{name} was taken for a folder of a split, and holds 6 images" in message or f"has {name} but no train" in message
    (tmp_path / name).rename(tmp_path / "railway")
    assert "railway" in open_dataset(f"folder:{tmp_path}").classes


def test_only_a_table_of_labels_of_these_images_is_advised(tmp_path: Path) -> None:
    root = put(tmp_path / "D", *(f"cat.{k}.png" for k in range(6)), *(f"dog.{k}.png" for k in range(6)))
    files = sorted(p.name for p in root.iterdir())
    others = {
        "predictions.csv": (
            ["image", "class", "probability", "p(cat)", "problem", "network"],
            lambda f: [f"D/{f}", f[:3], "1", "1", "", "n"],
        ),
        "look.csv": (["image", "split", "label", "kind", "detail"], lambda f: [f"D/{f}", "train", f[:3], "dark", ""]),
        "numbers.csv": (["x", "y"], lambda f: ["1", "2"]),
        "gone.csv": (["file", "label"], lambda f: [f"gone/{f}", f[:3]]),
        "same.csv": (["file", "label"], lambda f: [f"D/{f}", "one"]),
    }
    for name, (header, row) in others.items():
        write(tmp_path / name, [row(f) for f in files], header)
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe\0")
    message = refusal(f"folder:{root}")
    assert "table:" not in message.replace("(table:PATH)", "") and "12 images lie in it directly" in message
    for place in (root / "metadata.csv", root.parent / "zz.csv"):
        shown = place.relative_to(root.parent)
        prefix = "" if place.parent == root else "D/"
        write(place, [[prefix + f, f[:3]] for f in files], ["file_name", "label"])
        assert advised(refusal(f"folder:{root}")) == f"table:{root.parent / shown}"
        assert len(open_dataset(advised(refusal(f"folder:{root}"))).ids) == 12
        place.unlink()


def test_a_table_within_the_folder_of_a_split_is_found(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{k}.png" for k in range(12)))
    write(tmp_path / "train" / "metadata.csv", [[f"{k}.png", LABELS[k % 2]] for k in range(12)], ["file_name", "label"])
    assert len(open_dataset(advised(refusal(f"folder:{tmp_path}"))).ids) == 12


# ---- files that hold no image ---------------------------------------------------------------------------------

HELD = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", no_images.LFS),
    "annex": (b"/annex/objects/SHA256E-s1--0.jpg\n", no_images.ANNEX),
    "annex link": (b"../../.git/annex/objects/x/y\n", no_images.ANNEX),
    "dvc": (b"outs:\n- md5: 0\n  path: a.jpg\n", no_images.DVC),
    "empty": (b"", no_images.EMPTY),
    "page": (b"<!DOCTYPE html><html><title>Sign in", no_images.PAGE),
    "late page": (b"\xef\xbb\xbf\n\n  <html lang=en>", no_images.PAGE),
    "S3's no": (b'<?xml version="1.0"?><Error><Code>AccessDenied', no_images.PAGE),
    "an API's no": (b'{"error": "rate limit"}', no_images.NOTE),
    "svg": (b"<svg xmlns='x'/>", no_images.SVG),
    "xml svg": (b"<?xml version='1.0'?><svg/>", no_images.SVG),
    "pdf": (b"%PDF-1.7", no_images.PDF),
    "zip": (b"PK\x03\x04rest", no_images.ARCHIVE),
    "gz": (b"\x1f\x8b\x08rest", no_images.ARCHIVE),
    "mp4": (b"\0\0\0\x18ftypmp42rest", no_images.VIDEO),
    "heic": (b"\0\0\0\x18ftypheicrest", no_images.HEIC),
    "dicom": (b"\0" * 128 + b"DICM", no_images.DICOM),
    "numpy": (b"\x93NUMPY\x01\0", no_images.ARRAY),
    **{
        f"picture {k}": (start + b"rest", no_images.PICTURE)
        for k, start in enumerate(
            (
                b"\0\0\0\x0cjP  \r\n\x87\n",
                b"\xff\x4f\xff\x51",
                b"\xff\x0a",
                b"8BPS",
                b"P5\n",
                b"P6 ",
                b"DDS ",
                b"%!PS",
                b"\0\0\1\0\1\0",
                b"qoif",
            )
        )
    },
    "noise": (bytes(range(128, 250)), no_images.BAD),
}


@pytest.mark.parametrize("held", HELD)
def test_what_a_file_holds_instead_has_its_own_way_out(held: str, tmp_path: Path) -> None:
    data, holds = HELD[held]
    for c, k in itertools.product(LABELS, range(10)):
        path = tmp_path / c / f"{k}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    message = refusal(f"folder:{tmp_path}")
    assert message.endswith(f"What to do: {holds.way_out}.") and (holds is no_images.BAD or holds.what in message)
    assert "epair" not in message or holds is no_images.BAD


def test_several_ways_out_are_counted(tmp_path: Path) -> None:
    put(tmp_path, *BY_CLASS)
    for k, name in enumerate(("LFS", "LFS", "empty")):
        (tmp_path / "ash" / f"x{k}.png").write_bytes(HELD[name][0])
    message = refusal(f"folder:{tmp_path}")
    assert message.endswith(f"What to do: {no_images.LFS.way_out} (2); {no_images.EMPTY.way_out} (1).")


@pytest.mark.parametrize(("size", "cut"), [((20, 20), 0.5), ((60, 60), 0.7)])
def test_a_picture_cut_short_is_to_be_fetched_again(size: tuple[int, int], cut: float, tmp_path: Path) -> None:
    for c, k in itertools.product(LABELS, range(6)):
        path = tmp_path / c / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        scene(k).convert("RGB").resize(size).save(path)
        path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    assert f"What to do: {no_images.CUT.way_out}" in refusal(f"folder:{tmp_path}")


# ---- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf:", "folder:", "table:", "hf:?label=x", "table:?label=x", "hf: ", "folder: "])
def test_a_name_without_a_place_says_what_to_write(name: str) -> None:
    assert "names nothing. Write " in refusal(name)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("digits@official:99", "digits has folds 0..4, not fold 99"),
        ("digits@nosuch", "Choose from official"),
        ("digitz@official:1", "choose from digits"),
        ("FOLDER@official:9", "with folds 0..4"),
        ("mini_weeds@session --splits official:1", "Leave --splits out"),
        ("nowhere", "is no folder or table here"),
    ],
)
def test_splits_are_refused_as_what_they_are(what: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    put(tmp_path, *BY_CLASS)
    assert datasets(["check", *what.replace("FOLDER", f"folder:{tmp_path}").split(" ")]) == 2
    assert words in capsys.readouterr().err


def test_a_check_takes_splits_as_a_study_says_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = f"folder:{put(tmp_path / 'D', *BY_CLASS)}"
    said = []
    for arguments in ([f"{name}@official:2"], [name, "--splits", "official:2"]):
        assert datasets(["check", *arguments, "--json", str(tmp_path / "look.json"), "--overwrite"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
