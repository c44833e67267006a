"""Statements of docs/data.md about tables are true: names of columns, folders, files and words are the code's, and its rows are tried."""

import re
from pathlib import Path

import pytest

from study.datasets import open_dataset
from study.datasets.called import PERHAPS_NONE
from study.datasets.manifest import FILES_OF_NAMES, NAMES
from study.datasets.whereabouts import IMAGES
from study.errors import StudyError
from tests.own import scene

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
LISTED = re.findall(r"^\| `([^`]+)` \| `images/([^`]+)` \|", PAGE, re.MULTILINE)
SHAPES = {
    "no line of names": "a.png,ash\nb.png,oak\n",
    "a column for each class, one 1 a row": "file,ash,oak\n" + "".join(f"{k}.png,{k % 2},{1 - k % 2}\n" for k in range(10)),
    "columns of 0 and 1, not one 1 a row": "file,ash,oak,elm\n" + "".join(f"{k}.png,1,1,{k % 2}\n" for k in range(10)),
    "one column alone": "file\n" + "".join(f"{k}.png\n" for k in range(10)),
    "a label of numbers with a point, most of them different": "file,label\n" + "".join(f"{k}.png,{1.37 * k + 0.01}\n" for k in range(12)),
}


def row(first: str) -> str:
    found = re.search(rf"^\| {re.escape(first)} \|(.*)$", PAGE, re.MULTILINE)
    assert found, first
    return found[1]


@pytest.mark.parametrize("role", NAMES)
def test_every_name_of_a_column_is_told(role: str) -> None:
    assert row(role).split("|")[0].strip().split(", ") == list(NAMES[role])


def test_folders_files_and_words_are_the_codes() -> None:
    folders = ", ".join(f"`{folder}/`" for folder in IMAGES if folder)
    flat = " ".join(PAGE.split())
    assert folders in flat and all(f"`{file}`" in PAGE for file in FILES_OF_NAMES)
    said = re.search(r"call nothing \(([^)]*?), `-1`", flat)
    assert said and {word.lower() for word in re.findall(r"`([^`]+)`", said[1])} <= PERHAPS_NONE


@pytest.mark.parametrize(("listed", "file"), LISTED)
def test_every_listed_name_is_found_where_the_page_says(listed: str, file: str, tmp_path: Path) -> None:
    rows = []
    for k in range(12):
        other = file.replace("139", str(100 + k)) if "139" in file else file.replace("a.", f"a{k}.")
        if "b/" in other:
            other = other.replace("b/", f"b{k % 2}/")
        (tmp_path / "images" / other).parent.mkdir(parents=True, exist_ok=True)
        scene(k).save(tmp_path / "images" / other)
        name = str(100 + k) if listed == "139" else re.sub(r"([aA])(\.\w+)?$", rf"\g<1>{k}\2", listed).replace("/b/", f"/b{k % 2}/")
        rows.append(f"{name},{'ash' if k % 2 else 'oak'}")
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with pytest.raises(StudyError, match=r"\?images=images"):
        open_dataset(f"table:{tmp_path}/labels.csv")
    table = open_dataset(f"table:{tmp_path}/labels.csv?images=images")
    assert len(table.ids) == 12 and "files in images by what is left of their names" in table.form


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_the_page_calls_refused_is(shape: str, tmp_path: Path) -> None:
    assert row(shape).strip().startswith("refused")
    for k in range(12):
        scene(k).save(tmp_path / f"{k}.png")
    (tmp_path / "labels.csv").write_text(SHAPES[shape])
    with pytest.raises(StudyError) as raised:
        open_dataset(f"table:{tmp_path}/labels.csv")
    assert "does not exist" not in str(raised.value)


def test_the_rows_are_there() -> None:
    assert len(LISTED) == 8
