"""Test splits that a data set can be cut into: their number, and that no verdict rests on two that share images."""

import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load import load
from analysis.verdict import findings
from study.conduct.checks import open_tables
from study.datasets import CATALOG, open_dataset
from study.errors import ConfigError, DataError
from study.question.cell import grid
from study.question.folds import in_common
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.storage.places import find_places
from tests.own import scene
from tests.sized import write

GIVEN = (("train",), ("train", "test"), ("train", "val"), ("train", "val", "test"), ())


def images(root: Path, kind: str, given: tuple[str, ...]) -> str:
    """Write 20 images of each of two classes in every given split, and return the data set's name."""
    rows = ["file,label" + (",split" if given else "")]
    for number, (split, name) in enumerate(itertools.product(given or ("",), ("ash", "oak"))):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(20):
            scene(100 * number + k).save(folder / f"{k}.png")
            rows.append(f"{split or '.'}/{name}/{k}.png,{name}" + (f",{split}" if given else ""))
    if kind == "table":
        (root / "labels.csv").write_text("\n".join(rows))
        return f"table:{root}/labels.csv"
    return f"folder:{root}"


def asked(name: str) -> Study:
    cells = grid([name], ["efficientnet_lite0"], ["linear_probe"])
    return Study(name="f", cells=cells, protocol=Protocol(max_epochs=1, warmup_epochs=0, image_size=32))


@pytest.mark.parametrize("given", GIVEN, ids=lambda g: "+".join(g) or "none")
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_table_knows_its_folds(kind: str, given: tuple[str, ...], tmp_path: Path) -> None:
    """It has as many as can be opened, and no more. Where no split is given, each image is a test image of one."""
    name = images(tmp_path / "own", kind, given)
    folds = open_dataset(name).folds
    assert folds == (1 if "test" in given else 5)
    tables = [open_dataset(name, splits=f"official:{k}") for k in range(folds)]
    with pytest.raises(ConfigError, match="fold"):
        open_dataset(name, splits=f"official:{folds}")
    tested = np.bincount(np.concatenate([np.flatnonzero(t.split == 2) for t in tables]), minlength=len(tables[0].ids))
    assert {t.folds for t in tables} == {folds} and tested.max() == 1 and (given or tested.min() == 1)


@pytest.mark.parametrize("name", ("mini_faces", "mini_weeds", "digits"))
def test_a_table_of_the_catalogue_knows_its_folds(name: str) -> None:
    assert open_dataset(name).folds == CATALOG[name].folds


def test_a_fold_by_name_is_refused_where_the_test_split_is_given(tmp_path: Path) -> None:
    name = images(tmp_path / "own", "folder", ("train", "val", "test"))
    assert open_dataset(name, splits="official:0").folds == 1
    with pytest.raises(ConfigError, match="its test split is given, so there is no fold 2"):
        open_dataset(name, splits="official:2")


def test_the_fold_of_every_cell_is_looked_at(tmp_path: Path) -> None:
    """Once, the second fold of a data set was opened by its first trial alone."""
    one, two = asked("mini_weeds@official:0"), asked("mini_weeds@official:7")
    with pytest.raises(ConfigError, match="folds 0..4, not fold 7"):
        open_tables(dataclasses.replace(one, cells=(*one.cells, *two.cells)), find_places(str(tmp_path)))


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=1, max_size=6))
def test_test_images_in_common_are_found(tests: list[set[int]]) -> None:
    named = [[str(k) for k in own] for own in tests]
    assert (in_common(named) is None) == (sum(map(len, tests)) == len(set.union(*tests)))


@pytest.mark.parametrize("shared", [0, 1, 12])
def test_no_verdict_rests_on_folds_that_share_test_images(shared: int, tmp_path: Path) -> None:
    """An image that two folds test would be counted twice. It is refused however the study was begun."""
    ledger = write(tmp_path, {"partial": [0.9], "full": [0.5]}, (1.0,), seeds=5, tests=100, folds=5, searches=5, budget_check=0)
    for trial_id in ledger.test_openings()[0]["trials"]:
        file = f"trials/{trial_id}/measured/predictions.parquet"
        table = pq.read_table(io.BytesIO(ledger.folder.read(file) or b""))
        names = [n if n[0] == "v" or int(n[1:]) // 5 >= shared else f"s{int(n[1:]) // 5:05d}" for n in table["image"].to_pylist()]
        buffer = io.BytesIO()
        pq.write_table(table.set_column(1, "image", pa.array(names)), buffer)
        ledger.folder.write(file, buffer.getvalue())
    if not shared:
        assert len(findings(load(ledger)).sentences) == 1
        return
    with pytest.raises(DataError, match=f"folds 0 and 1 are both tested on {shared} images.*Ask anew under another --name"):
        findings(load(ledger))


def test_a_study_that_confirmed_on_folds_of_its_search_is_no_longer_read() -> None:
    """Every earlier study says confirm_folds, and where it is one, that means nothing."""
    was = asked("mini_weeds").as_dict()
    assert "confirm_folds" not in was and Study.from_dict({**was, "confirm_folds": 1}) == asked("mini_weeds")
    with pytest.raises(ConfigError, match="begun with confirm_folds 5.*ask anew under another name"):
        Study.from_dict({**was, "confirm_folds": 5})
