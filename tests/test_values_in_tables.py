"""Values in the cells of a table: lists, objects, bytes, measurements, words for nothing, several classes at once, and lost values."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from study.datasets import open_dataset
from study.datasets.called import PERHAPS_NONE
from study.errors import DataError
from tests.own import scene

COUNT = 10


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images of three classes: images/CLASS_NUMBER.png."""
    folder = tmp_path_factory.mktemp("cells")
    (folder / "images").mkdir()
    for k in range(3 * COUNT):
        scene(k).save(folder / "images" / f"{k // COUNT}_{k % COUNT}.png")
    return folder


def rows(labels: Sequence[object], *more: str) -> list[dict[str, object]]:
    return [{"file": f"{c}_{k}.png", "label": label} | {m: "" for m in more} for c, label in enumerate(labels) for k in range(COUNT)]


def form(root: Path, name: str, values: Sequence[dict[str, object]]) -> str:
    path = root / name
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, values)))
    elif path.suffix == ".parquet":
        pd.DataFrame(values).to_parquet(path)
    else:
        with open(path, "w", newline="") as file:
            out = csv.DictWriter(file, list(values[0]))
            out.writeheader()
            out.writerows(values)
    table = open_dataset(f"table:{path}")
    return f"{'|'.join(table.classes)} {table.form}"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("role", ["label", "file", "split", "group", "weight"])
@pytest.mark.parametrize("value", [["a", "b"], {"id": 1, "name": "a"}], ids=["list", "object"])
def test_a_value_of_several_is_refused_with_its_row_and_role(role: str, value: object, suffix: str, root: Path) -> None:
    values = [row | {role: value} for row in rows(["ash", "oak"], role)]
    name = "image" if role == "file" else role
    with pytest.raises(
        DataError,
        match=rf"several{suffix}:.*1: {name} \(column {role}\) is (a list of 2|an object|bytes or an object)|holds images themselves",
    ) as raised:
        form(root, f"several{suffix}", values)
    assert not (suffix == ".jsonl" and role == "label" and isinstance(value, list)) or "choose one" in str(raised.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_list_of_one_is_that_one_and_columns_that_are_not_used_may_hold_anything(suffix: str, root: Path) -> None:
    values = [row | {"label": [row["label"]], "boxes": [[1, 2], [3, 4]]} for row in rows(["ash", "oak"])]
    assert form(root, f"one{suffix}", values).startswith("ash|oak ")


def test_bytes_are_no_label(root: Path) -> None:
    with pytest.raises(DataError, match=r"label \(column label\) is bytes or an object. It must"):
        form(root, "bytes.parquet", [row | {"label": str(row["label"]).encode()} for row in rows(["ash", "oak"])])


@pytest.mark.parametrize("word", sorted(w for w in PERHAPS_NONE if w not in ("", "nan", "<na>", "nat")))
def test_words_for_nothing_are_said_to_be_perhaps_none(word: str, root: Path) -> None:
    assert f"; perhaps no class: {word.upper()} (empty means none)" in form(root, "none.csv", rows(["ash", "oak", word.upper()]))


@pytest.mark.parametrize("word", ["no defect", "Nadia", "unknown sp.", "nullarbor", "a-b", "1", "+ash", "-1", "oak+"])
def test_other_words_are_not(word: str, root: Path) -> None:
    assert "perhaps" not in form(root, "other.csv", rows(["ash", "oak", word]))


@pytest.mark.parametrize("between", [";", ", ", "|", " / ", "+", "&"])
def test_several_classes_in_a_cell_are_said(between: str, root: Path) -> None:
    joined = between.join(("ash", "oak"))
    assert f"; perhaps several classes in one: {joined}" in form(root, "joined.csv", rows(["ash", "oak", joined]))
    assert "several" not in form(root, "joined.csv", rows(["ash", "oak", between.join(("ash", "elm"))]))


def test_minus_one_beside_numbers_from_zero_is_perhaps_none(root: Path) -> None:
    assert "; perhaps no class: -1 (" in form(root, "minus.csv", rows(["0", "1", "-1"]))


@pytest.mark.parametrize("spelling", ["+1", "01", "1.0"])
def test_one_number_in_two_ways_is_no_two_classes(spelling: str, root: Path) -> None:
    with pytest.raises(DataError, match="are one number. Write it in one way"):
        form(root, "plus.csv", rows(["1", spelling, "-1"]))


def test_measurements_are_no_classes(root: Path) -> None:
    values = [row | {"label": 1.37 * k} for k, row in enumerate(rows(["a", "b", "c"]))]
    with pytest.raises(DataError, match="30 different numbers for 30 images .* measurements, not classes"):
        form(root, "measured.csv", values)
    grades = [row | {"label": 1 + 0.5 * (k % 3)} for k, row in enumerate(values)]
    assert form(root, "grades.csv", grades).startswith("1.0|1.5|2.0 ")


@pytest.mark.parametrize("word", ["", "nan", "NaN", " ", "<NA>"])
def test_a_group_that_is_missing_is_no_group(word: str, root: Path) -> None:
    values = [row | {"group": word if k % 2 else f"g{k % 12}"} for k, row in enumerate(rows(["ash", "oak"]))]
    path = root / "groups.csv"
    assert "; 10 without a group" in form(root, path.name, values)
    groups = open_dataset(f"table:{path}").groups
    assert groups is not None and len(set(groups.tolist())) == 6 + 10


def test_one_number_in_two_ways_is_one_group(root: Path) -> None:
    values = [row | {"group": f"{k % 5}.0" if k % 2 else f"{k % 5}"} for k, row in enumerate(rows(["ash", "oak"]))]
    form(root, "numbers.csv", values)
    groups = open_dataset(f"table:{root}/numbers.csv").groups
    assert groups is not None and len(set(groups.tolist())) == 5


def test_groups_that_differ_in_case_alone_are_said(root: Path) -> None:
    values = [row | {"group": f"{'Gg'[k % 2]}{k // 4}"} for k, row in enumerate(rows(["ash", "oak"]))]
    assert "; 5 groups differ from another in case alone" in form(root, "letters.csv", values)
    assert "case" not in form(root, "letters.csv", [row | {"group": str(row["group"]).lower()} for row in values])


def test_a_class_that_was_lost_is_named(root: Path) -> None:
    values = [row | {"file": f"gone_{row['file']}" if row["label"] == "elm" else row["file"]} for row in rows(["ash", "oak", "elm"])]
    assert "; no image left of elm" in form(root, "lost.csv", values)
    with pytest.raises(DataError, match=r"one class only \(ash; left out: 20 \(no such file\)\)"):
        form(root, "lost.csv", [row | {"file": row["file"] if row["label"] == "ash" else "gone.png"} for row in values])


def test_an_image_that_is_listed_in_two_splits_is_said(root: Path) -> None:
    values = [row | {"split": "train"} for row in rows(["ash", "oak"])]
    again = [row | {"split": "test"} for row in values[:2]] + values[2:3]
    assert "left out: 2 (listed in two splits, the first counts), 1 (duplicate path)" in form(root, "twice.csv", [*values, *again])


def test_a_class_that_differs_from_trains_in_case_alone_is_told_so(root: Path) -> None:
    values = rows(["ash", "oak", "ASH"])
    split = [row | {"split": "test" if row["label"] == "ASH" else "train"} for row in values]
    with pytest.raises(DataError, match="no train image of ASH.*Rename what differs in case alone: ASH is ash in train"):
        form(root, "case.csv", split)
