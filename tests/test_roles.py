"""Tables as people have them: the page says what each column was taken for, names of ids are proven, a name is one file."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from study import own_dataset
from study.datasets import open_dataset
from study.datasets.audit import audit
from study.datasets.ids import as_id, names_in
from study.datasets.manifest import NAMES, find_columns
from study.datasets.spec import astride
from study.errors import ConfigError, DataError, StudyError
from study.question.naming import DataName
from tests.own import classes, scene

COUNT = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roles") / "images"
    root.mkdir()
    for k in range(COUNT):
        scene(k).save(root / f"{k:02d}.png")
    return root


def table(root: Path, pictures: Path, name: str = "labels.csv", **columns: object) -> str:
    rows = {"file": [str(pictures / f"{k:02d}.png") for k in range(COUNT)]}
    for key, value in columns.items():
        rows[key] = [value[k % len(value)] for k in range(COUNT)] if isinstance(value, list | tuple) else [value] * COUNT
    pd.DataFrame(rows).to_csv(root / name, index=False)
    return f"table:{root / name}"


# ---- roles ---------------------------------------------------------------------------------------------------


def test_every_role_that_was_taken_is_said_and_likely_ones_that_were_not(pictures: Path, tmp_path: Path) -> None:
    plants = [f"p{k}" for k in range(8)]
    name = table(tmp_path, pictures, species=["ash", "oak"], Weight=[100, 3], plant=plants, is_valid=[True, False], camera="c", note="x")
    form = open_dataset(name).form
    assert "; image file; label species; group plant; weight Weight; split own; not taken: is_valid (split?), camera (group?)" in form
    assert "note" not in form


@pytest.mark.parametrize("role", ["label", "split", "group", "weight"])
def test_each_name_of_a_column_is_said_as_its_role(role: str, pictures: Path, tmp_path: Path) -> None:
    values: dict[str, list[object]] = {"label": ["a", "b"], "split": ["train", "train", "train", "val", "test", "train", "val", "test"],
        "group": list(range(8)), "weight": [1, 2]}  # fmt: skip
    for spelt in itertools.chain(NAMES[role], (n.upper() for n in NAMES[role])):
        columns = {} if role == "label" else {"label": ["a", "b"]}
        form = open_dataset(table(tmp_path, pictures, **columns, **{spelt: values[role]})).form
        assert f"; {role} {spelt}" in form


def test_the_same_is_said_of_folders_frames_and_hugging_face(pictures: Path, tmp_path: Path) -> None:
    root = classes(tmp_path / "own", {"a": 10, "b": 10})
    files = sorted(root.rglob("*.png"))
    (root / "groups.csv").write_text("file,group\n" + "".join(f"{f.relative_to(root)},{k // 2}\n" for k, f in enumerate(files)))
    assert "; group groups.csv" in open_dataset(f"folder:{root}").form
    frame = pd.read_csv(table(tmp_path, pictures, species=["ash", "oak"], plant=list("abcdefgh")).removeprefix("table:"))
    assert "; label label; group group; split own" in open_dataset(own_dataset(frame, folder=tmp_path / "made")).form
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"image": frame.file.tolist(), "species": frame.species.tolist(), "camera": ["c"] * COUNT})
    made.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "saved"))
    assert "; image image; label species; split own; not taken: camera (group?)" in open_dataset(f"hf:{tmp_path / 'saved'}").form


def test_a_coordinate_is_no_label(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which column is the label"):
        open_dataset(table(tmp_path, pictures, x=[1, 2], y=[3, 4], breed=["a", "b"]))
    assert find_columns(["file", "y"], {}, "t")["label"] == "y"


@pytest.mark.parametrize(
    "header", ["file,label,label", "file,Label,label", "file,file,label", "file,label,plant,Plant", "file,label,plant,plant"]
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_column_that_is_there_twice_is_refused(header: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"labels.{suffix}"
    path.write_text(
        "\n".join([header, *(",".join("x" * len(header.split(","))) for _ in range(3))]).replace(",", "\t" if suffix == "tsv" else ",")
    )
    with pytest.raises(StudyError, match="the header has the column '.*' twice .*. Keep one, or rename the other"):
        open_dataset(f"table:{path}")


def test_a_key_that_is_there_twice_in_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"file": "a.png", "label": "a", "label": "b"}\n')
    with pytest.raises(DataError, match=r"labels\.jsonl:1 is not JSON \(a key twice: file, label, label\)"):
        open_dataset(f"table:{tmp_path / 'labels.jsonl'}")
    assert json.loads('{"a": 1, "a": 2}') == {"a": 2}, "as Python reads it"


# ---- two files for one name ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "first", "second"),
    [
        ("a", "a.jpg", "a.bmp"), ("a", "a.tif", "a.png"), ("a", "images/a.png", "photos/a.png"), ("a.png", "a.png", "images/a.png"),
        ("a", "a.PNG", "a.png"), ("sub/a", "sub/a.png", "images/sub/a.jpg"), ("a.b", "a.b.png", "a.b.webp"),
        ("a.png", "img/a.png", "data/a.png"),
    ],
)  # fmt: skip
def test_a_name_of_two_files_is_refused_with_both(listed: str, first: str, second: str, tmp_path: Path) -> None:
    for k, name in enumerate((first, second)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        scene(k).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(f"file,label\n{listed},x\n")
    with pytest.raises(DataError, match="is the name of two files, .*; say which: .* as .images=FOLDER") as caught:
        open_dataset(f"table:{tmp_path / 'labels.csv'}")
    assert Path(first).name in str(caught.value) and Path(second).name in str(caught.value)
    (tmp_path / second).unlink()
    with pytest.raises(DataError, match="holds one class only"):
        open_dataset(f"table:{tmp_path / 'labels.csv'}")
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    with pytest.raises(DataError, match="holds one class only"):  # the same picture twice: either will do
        open_dataset(f"table:{tmp_path / 'labels.csv'}")


# ---- names of ids --------------------------------------------------------------------------------------------

BETWEEN = (" ", ": ", ":", " - ", "=", " = ", ". ", "\t", ",", ") ", " -> ")


@pytest.mark.parametrize(
    ("labels", "file", "text", "expected"),
    [
        (("0", "1"), "classes.txt", "ash\noak\nelm", ("ash", "oak")),
        (("0", "1"), "classes.txt", "ash\noak\n\n\n", ("ash", "oak")),
        (("1", "2"), "classes.txt", "1 ash\n2 oak\n3 elm", ("ash", "oak")),
        (("1", "2"), "classes.txt", "1: ash\n2: sugar beet", ("ash", "sugar beet")),
        (("1", "2"), "classes.txt", "2,oak\n1,ash", ("ash", "oak")),
        (("0.0", "1.0"), "classes.csv", "id,name\n0,ash\n1,oak", ("ash", "oak")),
        (("01", "02"), "classes.csv", "id,name\n1,ash\n2,oak", ("ash", "oak")),
        (("1", "2"), "classes.csv", "name,id\nash,1\noak,2", ("ash", "oak")),
        (("1", "2"), "classes.csv", "id;name\n1;ash\n2;oak", ("ash", "oak")),
        (("n0", "n1"), "classes.csv", "id,latin,name\nn0,fraxinus,ash\nn1,quercus,oak", ("ash", "oak")),
        (("ash", "oak"), "classes.txt", "ash\noak\nelm", ("ash", "oak")),
        (("ash", "oak"), "classes.csv", "id,name\n1,oak\n2,ash", ("ash", "oak")),
        *[(("1", "2"), "classes.txt", f"1{between}ash\n2{between}oak", ("ash", "oak")) for between in BETWEEN],
        *[(("1", "2"), "classes.txt", f"oak{between}2\nash{between}1", ("ash", "oak")) for between in BETWEEN],
        (("0", "1"), "classes.txt", "type 0\ntype 1", ("type 0", "type 1")),
        (("0", "1"), "classes.txt", "vgg 16\nresnet 50", ("vgg 16", "resnet 50")),
        (("1", "2"), "classes.json", '{"1": "ash", "2": "oak"}', ("ash", "oak")),
        (("1", "2"), "classes.json", '{"oak": 2, "ash": 1, "elm": 3}', ("ash", "oak")),
        (("0", "1"), "classes.json", '["ash", "oak", "elm"]', ("ash", "oak")),
        (("ash", "oak"), "classes.json", '{"0": "oak", "1": "ash"}', ("ash", "oak")),
        (("ash", "oak"), "classes.csv", "0,oak\n1,ash", ("ash", "oak")),
    ],
)
def test_names_of_ids_that_are_proven_are_taken(labels, file: str, text: str, expected, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert open_dataset(table(tmp_path, pictures, label=labels)).classes == expected


@pytest.mark.parametrize(
    ("labels", "file", "text", "message"),
    [
        (("1", "2"), "classes.txt", "ash\noak\nelm", "no label is 0: they go from 1 to 2, so that nothing says which line is which id"),
        (("1", "2", "3"), "classes.txt", "ash\noak\nelm", "no label is 0"),
        (("0", "1"), "classes.txt", "name\nash\noak", "its first line, 'name', is no class"),
        (("0", "1"), "classes.txt", "# of 2017\nash\noak", "its first line, '# of 2017', is no class"),
        (("0", "1", "2"), "classes.txt", "ash\n\noak\nelm", "line 2 is empty"),
        (("0", "5"), "classes.txt", "ash\noak\nelm", "no name of class 5. Add a line for each"),
        (("0.0", "7.0"), "classes.csv", "id,name\n0,ash\n1,oak", "no name of class 7.0"),
        (("n0", "n1"), "classes.csv", "id,latin,common\nn0,fraxinus,ash\nn1,quercus,oak", "which column is the name of a class"),
        (("n0", "n2"), "classes.csv", "id,name\nn0,ash\nn1,oak", "no name of class n2"),
        (("beech", "oak"), "classes.txt", "ash\noak\nelm", "lists none of beech. Write an id and a name a line, or remove the file"),
        (("0", "1"), "classes.csv", "id,name\n0,ash\n0,oak\n1,elm", "class 0 is called 'oak' and 'ash'. Keep one name"),
        (("1", "1.0"), "other.txt", "", "the classes '1' and '1.0' are one number"),
        (("1", "2"), "classes.json", '["ash", "oak", "elm"]', "no label is 0"),
        (("0", "1"), "classes.json", '{"0": "ash"}', "no name of class 1"),
        (("0", "1"), "classes.json", '{"0": "ash", "1": ', "classes.json is not JSON"),
        (("0", "1"), "classes.json", '{"0": ["ash"]}', "neither a list of names nor ids with a name each"),
        (("0", "1"), "classes.txt", "ash\noak".encode("utf-16"), "classes.txt is UTF-16. Save it as UTF-8"),
        (("0", "1"), "classes.csv", "id,name\n0,Föhre\n1,oak".encode("latin-1"), "classes.csv:2: byte 0xf6 is not UTF-8"),
    ],
)
def test_names_of_ids_that_are_not_proven_are_refused(
    labels, file: str, text: str | bytes, message: str, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(table(tmp_path, pictures, label=labels))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("file", ["labels.txt", "class_names.txt", "obj.names", "class_to_idx.json", "id2label.json", "species.csv"])
def test_a_file_that_may_name_the_ids_is_said_where_it_is_not_read(file: str, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / file).write_text('{"0": "ash", "1": "oak"}' if file.endswith("json") else "0,ash\n1,oak\n")
    name = table(tmp_path, pictures, label=("0", "1"))
    assert f"; classes have no names; {file} not read (?names=FILE)" in open_dataset(name).form
    assert open_dataset(f"{name}?names={file}").classes == ("ash", "oak")
    assert "no names" not in open_dataset(table(tmp_path, pictures, label=("ash", "oak"))).form


def test_a_file_of_names_that_was_asked_for_is_used_or_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "NAMES.txt").write_text("id, latin, common\nn0, fraxinus, ash\nn1, quercus, oak\n")
    name = table(tmp_path, pictures, label=("n0", "n1"))
    with pytest.raises(
        DataError, match=r"NAMES\.txt: which column is the name of a class\? It has id, latin, common. Call one of them name"
    ):
        open_dataset(f"{name}?names=NAMES.txt")
    (tmp_path / "NAMES.txt").write_text("id, latin, name\nn0, fraxinus, ash\nn1, quercus, oak\n")
    assert open_dataset(f"{name}?names=NAMES.txt").classes == ("ash", "oak")
    with pytest.raises(DataError, match="the column class_name has no name of class 1. Fill it in"):
        open_dataset(table(tmp_path, pictures, label=("0", "1"), class_name=("ash", "")))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw.integers(0, 3), draw.integers(1, 6), draw.data(), draw.sampled_from(["{}", "{}.0", "0{}"]), draw.booleans())
def test_a_name_is_its_ids_or_refused_and_never_its_neighbours(
    tmp_path: Path, first: int, count: int, data: draw.DataObject, form: str, numbered: bool
) -> None:
    """Names lie in a file from `first` on, and labels are some of the ids, in any spelling."""
    ids = list(range(first, first + count))
    used = data.draw(draw.sets(draw.sampled_from(ids), min_size=1))
    (tmp_path / "classes.txt").write_text("\n".join(f"{i} n{i}" if numbered else f"n{i}" for i in ids))
    labels = {form.format(i) for i in used}
    try:
        found = names_in(tmp_path / "classes.txt", labels)
    except DataError:
        assert not numbered and 0 not in used
        return
    assert {as_id(label): name for label, name in found.items()} == {str(i): f"n{i}" for i in used}


# ---- groups --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(draw.lists(draw.tuples(draw.integers(0, 5), draw.integers(-1, 2)), min_size=1, max_size=30))
def test_groups_astride_are_those_with_images_in_two_splits(rows: list[tuple[int, int]]) -> None:
    sides: dict[int, set[int]] = {}
    for group, split in rows:
        if split >= 0:
            sides.setdefault(group, set()).add(split)
    groups, splits = np.array(rows).T
    assert astride(groups, splits) == sum(len(s) > 1 for s in sides.values())


@pytest.mark.parametrize("reader", ["table", "folder"])
def test_groups_that_straddle_given_splits_are_warned_of_with_their_number(reader: str, pictures: Path, tmp_path: Path) -> None:
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    whole = [f"p{s}{k}" for k, s in enumerate(splits)]
    straddling = [*whole[:4], whole[0], *whole[5:7], whole[1]]  # one group in train and val, one in train and test
    for groups, said in ((whole, 0), (straddling, 2)):
        if reader == "table":
            name = table(tmp_path, pictures, label=["a", "b"], split=splits, group=groups)
        else:
            root = tmp_path / f"own{said}"
            for k, split in enumerate(splits):
                classes(root / split, {f"{c}": 3 for c in "ab"}, first=9000 * k) if not (root / split).is_dir() else None
            files = {s: sorted((root / s).rglob("*.png")) for s in set(splits)}
            of = {s: [g for g, own in zip(groups, splits, strict=True) if own == s] for s in files}
            rows = [f"{f.relative_to(root)},{of[s][k % len(of[s])]}\n" for s, own in files.items() for k, f in enumerate(own)]
            (root / "groups.csv").write_text("file,group\n" + "".join(rows))
            name = f"folder:{root}"
        made = open_dataset(name)
        report = audit(made)
        assert ("; 2 groups in more than one split" in made.form) == bool(said), "a plan shows it too"
        found = [w for w in report.warnings if "in more than one split" in w]
        assert report.groups_astride == said and len(found) == bool(said)
        if said:
            assert re.match(
                r"2 groups have images in more than one split; \d+ validation or test images are of a group that train has too", found[0]
            )


# ---- names of tables -----------------------------------------------------------------------------------------


def test_a_folder_of_images_above_means_the_same_from_any_folder(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "photos").symlink_to(pictures)
    pd.DataFrame({"file": [f"{k:02d}.png" for k in range(COUNT)], "label": ["a", "b"] * 12}).to_csv(tmp_path / "a" / "b" / "labels.csv")
    monkeypatch.chdir(tmp_path / "a" / "b")
    full = DataName.parse("table:labels.csv?images=../../photos").absolute().text
    assert full == f"table:{tmp_path}/a/b/labels.csv?images=../../photos"
    monkeypatch.chdir("/")
    assert len(open_dataset(full).ids) == COUNT
