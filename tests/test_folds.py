"""Folds are repeats where each is tested on images of its own; whatever is not is refused before the search, and once more at the verdict."""

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
from study.question.config import Protocol, Study, grid
from study.question.folds import in_common
from study.storage.places import find_places
from study.sweep import main
from tests.own import scene
from tests.sized import write

GIVEN = (("train",), ("train", "test"), ("train", "val"), ("train", "val", "test"), ())


def images(root: Path, kind: str, given: tuple[str, ...]) -> str:
    """20 images of each of two classes in every split that is given; the data set's name."""
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


def asked(name: str, folds: int, splits: str = "") -> Study:
    cells = grid([name + splits], ["efficientnet_lite0"], ["linear_probe"])
    return Study(name="f", cells=cells, protocol=Protocol(max_epochs=1, warmup_epochs=0, image_size=32), confirm_folds=folds)


@pytest.mark.parametrize("given", GIVEN, ids=lambda g: "+".join(g) or "none")
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_folds_are_of_splits_that_are_ours(kind: str, given: tuple[str, ...], tmp_path: Path) -> None:
    """Every confirm_folds from 1 to 7 of every way to give splits: refused at once, or no image is tested on two of them."""
    name, places = images(tmp_path / "own", kind, given), find_places(str(tmp_path))
    for folds in range(1, 8):
        if folds > 1 and ("test" in given or folds > 5):
            with pytest.raises(ConfigError, match="no fold 1.*raise confirm_seeds" if "test" in given else "folds 0..4") as refused:
                open_tables(asked(name, folds), places)
            assert "\n" not in str(refused.value)
            continue
        open_tables(asked(name, folds), places)
        tables = [open_dataset(name, splits=f"official:{k}") for k in range(folds)]
        assert in_common([[t.ids[k] for k in np.flatnonzero(t.split == 2)] for t in tables]) is None


@pytest.mark.parametrize("given", GIVEN, ids=lambda g: "+".join(g) or "none")
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_table_knows_its_folds(kind: str, given: tuple[str, ...], tmp_path: Path) -> None:
    """As many as can be opened, and none more; where no split is given, each image is a test image of one."""
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


GENERATED = ("mini_faces", "mini_weeds", "digits")


@pytest.mark.parametrize(("name", "folds"), itertools.product(GENERATED, range(2, 8)))
def test_as_many_folds_as_a_data_set_has_and_no_more(name: str, folds: int, tmp_path: Path) -> None:
    """Half of the confirm runs failed, after the whole search."""
    if folds <= CATALOG[name].folds:
        open_tables(asked(name, folds), find_places(str(tmp_path)))
        return
    with pytest.raises(ConfigError, match=rf"confirm_folds {folds}: {name} has .*raise confirm_seeds"):
        open_tables(asked(name, folds), find_places(str(tmp_path)))


def test_the_fold_of_every_cell_is_looked_at(tmp_path: Path) -> None:
    """The second fold of a data set was opened by its first trial alone."""
    one, two = asked("mini_weeds", 1, "@official:0"), asked("mini_weeds", 1, "@official:7")
    with pytest.raises(ConfigError, match="folds 0..4, not fold 7"):
        open_tables(dataclasses.replace(one, cells=(*one.cells, *two.cells)), find_places(str(tmp_path)))


def test_two_folds_of_one_data_set_are_not_confirmed_on_the_same_folds(tmp_path: Path) -> None:
    one, two = asked("mini_weeds", 2, "@official:0"), asked("mini_weeds", 2, "@official:1")
    with pytest.raises(ConfigError, match="official:0 and official:1.*each is confirmed on the same folds"):
        open_tables(dataclasses.replace(one, cells=(*one.cells, *two.cells)), find_places(str(tmp_path)))


def test_a_dry_run_and_a_run_refuse_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = images(tmp_path / "own", "folder", ("train", "val", "test"))
    for more in (["--dry-run"], ["--local"]):
        command = ["quickstart", "--datasets", name, "--set", "confirm_folds=3", "image_size=32", "--results", "r", "--mlflow", "off"]
        assert main([*command, *more]) == 2
        assert "confirm_folds 3: " in capsys.readouterr().err and not (tmp_path / "r").exists()


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=1, max_size=6))
def test_test_images_in_common_are_found(tests: list[set[int]]) -> None:
    named = [[str(k) for k in own] for own in tests]
    assert (in_common(named) is None) == (sum(map(len, tests)) == len(set.union(*tests)))


@pytest.mark.parametrize("shared", [0, 1, 60])
@pytest.mark.parametrize("folds", [2, 3])
def test_no_verdict_rests_on_folds_that_share_test_images(shared: int, folds: int, tmp_path: Path) -> None:
    """Three trainings of one kind counted as three: "beats", p = 2e-13, on noise. Refused whatever the study was begun as."""
    ledger = write(tmp_path, {"partial": [0.9], "full": [0.5]}, (1.0,), seeds=2 * folds, tests=60, confirm_folds=folds)
    for trial_id in ledger.test_openings()[0]["trials"]:
        ask = ledger.ask(trial_id)
        assert ask is not None
        file, fold = f"trials/{trial_id}/measured/predictions.parquet", int(ask.config["cell"]["splits"].partition(":")[2])
        table = pq.read_table(io.BytesIO(ledger.folder.read(file) or b""))
        names = [n if n[0] == "v" or int(n[1:]) < shared else f"{n}-{fold}" for n in table["image"].to_pylist()]
        buffer = io.BytesIO()
        pq.write_table(table.set_column(1, "image", pa.array(names)), buffer)
        ledger.folder.write(file, buffer.getvalue())
    if not shared:
        assert len(findings(load(ledger)).sentences) == 1
        return
    with pytest.raises(DataError, match=f"folds 0 and 1 are both tested on {shared} images.*ask anew under another --name"):
        findings(load(ledger))
