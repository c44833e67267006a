"""`table:labels.csv`: columns by name or given, files found beside it, rows that cannot be used left out by name."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.datasets import open_dataset
from study.errors import ConfigError, DataError, StudyError
from study.question.cell import Cell, grid
from study.question.naming import DataName
from study.question.studies import find_study, narrow
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import open_inputs, run_trial
from study.storage.places import Places
from study.training.losses import cross_entropy
from tests.own import scene

ROWS = [{"file": f"images/{k:02d}.png", "species": "oak" if k % 2 else "ash", "patient": f"p{k // 4}"} for k in range(40)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for k in range(40):
        scene(k).save(tmp_path / "images" / f"{k:02d}.png")
    return tmp_path


def write(path: Path, rows: list[dict[str, object]], by: str = ",") -> str:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=by)
        writer.writeheader()
        writer.writerows(rows)
    return f"table:{path}"


def facts(name: str) -> tuple[object, ...]:
    table = open_dataset(name)
    groups = None if table.groups is None else table.groups.tolist()
    return table.ids, table.classes, table.labels.tolist(), table.split.tolist(), groups


def test_every_kind_of_table_gives_the_same_data(images: Path) -> None:
    expected = facts(write(images / "labels.csv", ROWS))
    assert expected[1] == ("ash", "oak") and len(expected[0]) == 40 and expected[0][3] == "images/03.png"
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(images / "labels.parquet")
    frame.to_json(images / "labels.jsonl", orient="records", lines=True)
    short = [{**row, "file": str(row["file"])[7:]} for row in ROWS]  # bare names, found in the folder of images beside the table
    bare = [{**row, "file": str(row["file"])[7:-4]} for row in ROWS]  # and without a suffix, as competitions have them
    others = [write(images / "tabs.tsv", ROWS, "\t"), write(images / "semicolons.csv", ROWS, ";"), write(images / "short.csv", short)]
    others += [f"table:{images / 'labels.parquet'}", f"table:{images / 'labels.jsonl'}", write(images / "bare.csv", bare)]
    (images / "photos").mkdir()
    moved = [{"Photo": f"moved{k:02d}.png", "Species": row["species"]} for k, row in enumerate(ROWS)]
    for k, row in enumerate(ROWS):
        (images / "photos" / f"moved{k:02d}.png").write_bytes((images / str(row["file"])).read_bytes())
    assert facts(write(images / "moved.csv", moved, ";"))[1:3] == expected[1:3], "as people call them: Photo, in photos/"
    others += [write(images / "full.csv", [{**row, "file": str(images / str(row["file"]))} for row in ROWS])]
    for name in others:
        assert facts(name) == expected, name


def test_columns_are_recognised_or_given(images: Path) -> None:
    odd = [{"a": r["file"], "b": r["species"], "c": ("train", "val", "test")[k % 3], "d": r["patient"]} for k, r in enumerate(ROWS)]
    path = write(images / "odd.csv", odd)
    with pytest.raises(ConfigError, match=r"which column is the image\? The table has a, b, c, d. Say it: .*odd\.csv\?image=COLUMN"):
        open_dataset(path)
    with pytest.raises(ConfigError, match="no column 'e'. Choose from"):
        open_dataset(f"{path}?image=a&label=e")
    with pytest.raises(ConfigError, match="no option 'lable'. Choose from label"):
        open_dataset(f"{path}?image=a&lable=b")
    table = open_dataset(f"{path}?image=a&label=b&split=c&group=d")
    assert table.split.tolist() == [k % 3 for k in range(40)] and "given split" in table.form
    assert table.groups is not None and len(set(table.groups)) == 10


def test_groups_stay_together_and_weights_count(images: Path) -> None:
    weighted = [{**row, "weight": 3 if row["species"] == "oak" else 1} for row in ROWS]
    table = open_dataset(write(images / "labels.csv", weighted))
    parts = [set(table.groups[table.split == k]) for k in range(3)]
    assert all(parts) and not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert table.weights is not None and table.weights[table.split == 0].mean() == pytest.approx(1)
    assert table.weights[1] / table.weights[0] == pytest.approx(3)


def test_a_weight_multiplies_an_images_loss_smoothing_included(images: Path) -> None:
    import torch
    import torch.nn.functional as F

    weighted = [{**row, "weight": k % 3} for k, row in enumerate(ROWS)]
    cell = Cell(dataset=write(images / "labels.csv", weighted), backbone="efficientnet_lite0", strategy="linear_probe")
    config = TrialConfig.default(cell, Protocol(image_size=32))
    inputs = open_inputs(config, Places(folder=""))
    positions = np.arange(len(inputs.train))
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(len(positions), 2)).astype(np.float32))
    labels = torch.from_numpy(inputs.labels_of(inputs.train))
    plain = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    found = cross_entropy(logits, inputs.targets(positions), inputs.image_weights(positions), None, 0.1)
    assert torch.allclose(found, (plain * torch.from_numpy(inputs.table.weights[inputs.train])).sum(), rtol=1e-5)


def test_class_ids_get_names_from_a_column_or_a_file(images: Path) -> None:
    numbered = [{"image": r["file"], "class_id": 10 if r["species"] == "oak" else 9, "class_name": r["species"]} for r in ROWS]
    assert open_dataset(write(images / "both.csv", numbered)).classes == ("ash", "oak")
    bare = [{"image": r["image"], "label": r["class_id"]} for r in numbered]
    name = write(images / "ids.csv", bare)
    assert open_dataset(name).classes == ("9", "10"), "in the order of numbers"
    write(images / "classes.csv", [{"id": 9, "name": "ash"}, {"id": 10, "name": "oak"}])
    assert open_dataset(name).classes == ("ash", "oak")
    write(images / "classes.csv", [{"id": 9, "name": "ash"}])
    with pytest.raises(DataError, match=r"classes\.csv: no name of class 10"):
        open_dataset(name)


def test_rows_that_cannot_be_used_are_left_out_by_name(images: Path) -> None:
    (images / "images" / "broken.png").write_bytes(b"no image")
    scene(99, (6, 60)).save(images / "images" / "thin.png")
    extra = [("", "oak"), ("images/gone.png", "oak"), ("images/00.png", "ash"), ("images/01.png", ""), ("labels.csv", "oak")]
    extra += [("images/broken.png", "oak"), ("images/thin.png", "ash"), ("images/02.png", "oak")]
    name = write(images / "labels.csv", ROWS + [{"file": f, "species": s, "patient": "p0"} for f, s in extra])
    table = open_dataset(name)
    assert len(table.ids) == 39 and "images/02.png" not in table.ids, "listed with two labels: neither is believed"
    why = dict(table.ignored)
    assert why["images/gone.png"] == "no such file" and why["images/00.png"] == "duplicate path" and why["images/01.png"] == "no label"
    assert why["images/02.png"] == "listed with two labels" and why["labels.csv"] == ".csv is not read"
    assert why["images/broken.png"].startswith("corrupt: not JPEG/PNG") and why["images/thin.png"].startswith("too small")
    assert "left out: " in table.form and "2 (listed with two labels)" in table.form and "1 (no such file)" in table.form


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "a header and no row|holds no row"),
        (
            "file,label\nx.png,a\n",
            r"x\.png is not there. In .*/images there are .* Call the files in the table as they are called there, or give the folder",
        ),
        ("file,label\nimages/00.png\n", r"labels\.csv:2: has 1 columns, the header 2"),
        ("file,label,split\nimages/00.png,a,later\n", r"labels\.csv:2: split is 'later'. It must be train, val or test"),
        ("file,label,weight\nimages/00.png,a,-1\n", r"labels\.csv:2: weight is '-1'. It must be a number >= 0"),
        ("file,label\nimages/00.png,a\nimages/01.png,a\n", r"holds one class only \(a\)"),
    ],
)
def test_faults_are_one_line_with_row_and_way_out(text: str, message: str, images: Path) -> None:
    (images / "labels.csv").write_text(text)
    with pytest.raises(StudyError, match=message) as caught:
        open_dataset(f"table:{images / 'labels.csv'}")
    assert str(caught.value).isprintable() and str(caught.value).count("\n") == 0


def test_tables_that_are_none_are_named(images: Path) -> None:
    (images / "bad.jsonl").write_text(json.dumps({"file": "images/00.png", "label": "a"}) + "\n[1]\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:2 is list, not an object"):
        open_dataset(f"table:{images / 'bad.jsonl'}")
    (images / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    for name, message in (
        ("bad.parquet", "cannot be read"),
        ("gone.csv", "does not exist"),
        ("images", "is a folder"),
        ("x.xlsx", "no table that is read"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(f"table:{images / name}")
    write(images / "labels.csv", ROWS)
    with pytest.raises(DataError, match=rf"one class only .*give 'table:{images}/labels.csv'"):
        open_dataset(f"folder:{images}")


def test_names_mean_the_same_from_any_folder(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(images / "labels.csv", ROWS)
    monkeypatch.chdir(images)
    for said, full in (("table:labels.csv?label=species", f"{name}?label=species"), ("digits", "digits")):
        assert DataName.parse(said).absolute().text == full
    (cell,) = grid(["table:labels.csv@official:3"], ["resnet18"], ["full"])
    assert (cell.dataset, cell.splits) == ("table:labels.csv", "official:3")
    cells = narrow(find_study("quickstart"), datasets=["table:labels.csv"]).cells
    assert {c.dataset for c in cells} == {name} and open_dataset(name, splits="official:3").name == name


def test_a_trial_trains_on_a_table(images: Path, tmp_path: Path) -> None:
    cell = Cell(dataset=write(images / "labels.csv", ROWS), backbone="efficientnet_lite0", strategy="linear_probe")
    config = TrialConfig.default(cell, Protocol(max_epochs=1, warmup_epochs=0, image_size=32, batch_size=8))
    seen = []
    ending = run_trial(config, Places(folder=str(tmp_path / "trial")), lambda record: bool(seen.append(record)))
    assert ending.outcome == "completed" and len(seen) == 1
