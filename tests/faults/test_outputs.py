"""Outputs that a person names never replace what is not ours: whatever lies there, whichever command writes."""

import csv
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis import compare, report
from analysis.page.write import write_tables
from study import export, trial
from study.datasets import __main__ as datasets
from study.errors import ConfigError
from study.search.to_optuna import OPTUNAS
from study.storage import outputs
from study.storage.folder import Folder
from study.storage.options import check_tracking
from study.tracking import __main__ as tracking
from study.tracking.client import connect
from study.tracking.from_mlflow import which_one
from study.use.table import PredictionsCsv
from tests.goldens import GOLDEN

SENTINEL = b"the only copy\n"
Write = Callable[[Path, list[str]], int]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for k in range(24):
        path = root / "ab"[k % 2] / f"{k:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("results") / "golden"
    shutil.copytree(GOLDEN / "golden", copy)
    return copy


def commands(study: Path, images: Path) -> dict[str, Write]:
    check = ["check", str(images)]
    return {
        "report --out": lambda to, more: report.main([str(study), "--no-images", "--out", str(to), *more]),
        "compare --out": lambda to, more: compare.main([str(study), str(study), "--out", str(to), *more]),
        "check --html": lambda to, more: datasets.main([*check, "--html", str(to), *more]),
        "check --csv": lambda to, more: datasets.main([*check, "--csv", str(to), *more]),
        "check --json": lambda to, more: datasets.main([*check, "--json", str(to), *more]),
    }


NAMES = ("report --out", "compare --out", "check --html", "check --csv", "check --json")


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def picture(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "PNG")


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a device": device,
    "a pipe": lambda p: os.mkfifo(p),
    "a folder": lambda p: p.mkdir(),
    "a user's text": lambda p: p.write_bytes(SENTINEL),
    "a user's page": lambda p: p.write_text("<!doctype html><html><title>My garden</title></html>"),
    "a user's table": lambda p: p.write_text("image,label\na.png,oak\n"),
    "a user's quoted table": lambda p: p.write_text('"image","label"\n"a.png","oak"\n'),
    "a user's JSON": lambda p: p.write_text('{"dataset": "mine"}'),
    "a picture": picture,
    "bytes of no kind": lambda p: p.write_bytes(bytes(range(256)) * 9),
    "a link to a user's text": lambda p: p.symlink_to(_kept(p)),
    "a link to a device": lambda p: p.symlink_to("/dev/null"),
}


def _kept(path: Path) -> Path:
    target = path.with_name("target.txt")
    target.write_bytes(SENTINEL)
    return target


def state(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    data = path.read_bytes() if path.is_file() else b""
    return stat.S_IFMT(found.st_mode), found.st_ino, found.st_rdev, data


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_nothing_that_is_not_ours_is_replaced(
    name: str, what: str, study: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    IN_THE_WAY[what](place)
    before = state(place)
    assert commands(study, images)[name](place, []) == 2
    assert state(place) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {place} is ") and name.split()[1] in line


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "own", ["study.json", "selection.json", "test_lock.json", "budgets.json", ".lock", "trials/0/config.json", "trials/x.html"]
)
def test_no_file_of_a_study_is_written_over_nor_made(
    name: str, own: str, study: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "golden"
    shutil.copytree(study, copy)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    for more in ([], ["--overwrite"]):
        assert commands(study, images)[name](copy / own, more) == 2
        assert "study's own files" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_written_again_and_a_link_stays(name: str, study: Path, images: Path, tmp_path: Path) -> None:
    write = commands(study, images)[name]
    place, link = tmp_path / "out", tmp_path / "link"
    place.touch()  # an empty file holds nothing
    link.symlink_to(place)
    for _ in range(2):
        assert write(link, []) in (0, 3)
    assert link.is_symlink() and place.stat().st_size > 0
    place.write_bytes(SENTINEL)
    assert write(place, ["--overwrite"]) in (0, 3) and place.read_bytes() != SENTINEL


def test_a_page_is_replaced_by_its_own_kind_alone(study: Path, images: Path, tmp_path: Path) -> None:
    every = commands(study, images)
    for own in NAMES:
        place = tmp_path / own.replace(" ", "")
        assert every[own](place, []) in (0, 3)
        kept = place.read_bytes()
        for other in NAMES:
            if other != own:
                assert every[other](place, []) == 2 and place.read_bytes() == kept, (own, other)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_folder_of_tables_is_written_whole_or_not(format: str, tmp_path: Path) -> None:
    tables = {"a": pd.DataFrame({"x": [1]}), "b": pd.DataFrame({"y": [1], "z": ["t"]}), "none": pd.DataFrame()}
    write_tables(tables, str(tmp_path / "t"), format)
    grown = tables | {"a": pd.DataFrame({"x": [1], "new": [2]}), "none": pd.DataFrame({"first": [1]})}
    write_tables(grown, str(tmp_path / "t"), format)
    with pytest.raises(ConfigError, match="is there already and is no"):
        write_tables(tables, str(tmp_path / "t"), format)  # would lose a column
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / f"b.{format}").write_bytes(SENTINEL)
    with pytest.raises(ConfigError, match="--tables"):
        write_tables(tables, str(tmp_path / "u"), format)
    assert [p.name for p in (tmp_path / "u").iterdir()] == [f"b.{format}"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_bytes_that_we_did_not_write_are_nobodys_page_list_or_table(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    place = tmp_path_factory.getbasetemp() / "drawn"
    place.write_bytes(data)
    kinds = [report.PAGE, compare.KIND, *datasets.OUTPUTS.values(), outputs.table(["a", "b"], "parquet")]
    for kind in kinds:
        if data:
            with pytest.raises(ConfigError):
                outputs.check_output(place, kind, "--out")
        else:
            outputs.check_output(place, kind, "--out")
    assert place.read_bytes() == data


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True), st.booleans())
def test_a_table_with_a_column_that_would_be_lost_is_kept(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], quoted: bool
) -> None:
    place = tmp_path_factory.getbasetemp() / "table.csv"
    with open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerow(columns)
    with pytest.raises(ConfigError):
        outputs.check_output(place, outputs.table(columns[:-1], "csv"), "--tables")


@pytest.mark.parametrize("file", ["preprocessing.json", "MODEL_CARD.md", "model.onnx", "model.pt2", "timm"])
@pytest.mark.parametrize("what", ["a user's text", "a folder", "a pipe", "a device"])
def test_an_export_replaces_nothing_that_was_not_exported(file: str, what: str, tmp_path: Path, capsys) -> None:
    place = tmp_path / file
    IN_THE_WAY[what](place)
    before = state(place)
    line = [str(GOLDEN / "golden"), "--to", str(tmp_path), "--format", "timm,onnx,torch_export"]
    passes = (what, file) in {("a user's text", "preprocessing.json"), ("a folder", "timm")}  # looked into later; gone on with
    code = export.main(line)
    said = capsys.readouterr().err
    assert code == 2 and (passes or f"{place} is" in said) and state(place) == before
    assert [p.name for p in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("page", ["__init__.py", "scales.py", "pictures.py", "outside.py"])
@pytest.mark.parametrize("what", ["a user's text", "a folder", "a pipe", "a link to a user's text"])
def test_a_folder_called_reading_that_is_the_users_is_left_alone(
    page: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "to" / "reading").mkdir(parents=True)
    place = tmp_path / "to" / "reading" / page
    IN_THE_WAY[what](place)
    before = state(place)
    assert export.main([str(GOLDEN / "golden"), "--to", str(tmp_path / "to")]) == 2
    assert "reading" in capsys.readouterr().err and state(place) == before
    assert [p.name for p in (tmp_path / "to").iterdir()] == ["reading"]


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([export.ABOUT, export.CARD, "reading/outside.py"]), st.sampled_from([None, b"", b"the same", b"edited"])
    )
)
def test_a_text_of_an_export_with_other_words_is_not_replaced(tmp_path_factory: pytest.TempPathFactory, there: dict) -> None:
    """A model card that somebody had worked on was once written over by the next export."""
    folder = Folder(str(tmp_path_factory.mktemp("exported")))
    for file, text in there.items():
        if text is not None:
            folder.write(file, text)
    other = [file for file, text in there.items() if text not in (None, b"the same")]
    texts = dict.fromkeys([export.ABOUT, export.CARD, "reading/outside.py"], b"the same")
    if other:
        with pytest.raises(ConfigError, match="(C|c)hoose another folder with --to"):
            export.check_texts(folder, texts)
    else:
        export.check_texts(folder, texts)


def test_a_study_takes_no_export_no_table_and_no_trial(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "golden"
    shutil.copytree(study, copy)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    network = next((copy / "trials").iterdir())
    for to in (copy, network, copy / "trials"):
        assert export.main([str(copy), "--to", str(to)]) == 2
        assert trial.main(["digits/efficientnet_lite0/partial", "--out", str(to)]) == 2
        assert tracking.main(["export", str(copy), "--optuna", f"sqlite:///{to}/x.db"]) == 2
        with pytest.raises(ConfigError, match="study's own files"), PredictionsCsv(to / "budgets.json", ["a"], "n"):
            pass
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 3 and all("study's own files" in s for s in said)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("what", ["text", "another database", "a folder", "a pipe"])
def test_a_database_of_another_is_not_added_to(what: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "x.db"
    if what == "another database":
        with closing(sqlite3.connect(place)) as database, database:
            database.execute("CREATE TABLE experiments (name)")
    else:
        IN_THE_WAY[{"text": "a user's text"}.get(what, what)](place)
    before = state(place)
    assert tracking.main(["export", str(study), "--optuna", f"sqlite:///{place}"]) == 2
    assert str(place) in capsys.readouterr().err and state(place) == before


TABLES = ["experiments", "runs", "studies", "trials", "version_info", "photos", "alembic_version"]


@settings(max_examples=120, deadline=None)
@given(st.sets(st.sampled_from(TABLES)), st.sampled_from(["sqlite", "empty", "text", "absent"]))
def test_a_database_is_added_to_by_its_own_program_alone(tmp_path_factory: pytest.TempPathFactory, tables: set[str], kind: str) -> None:
    """MLflow's fifty tables were once put into a database of photographs, by a sync, and by a report that only reads."""
    place = tmp_path_factory.mktemp("drawn") / "x.db"
    if kind == "sqlite":
        with closing(sqlite3.connect(place)) as database, database:
            for name in ["photos", *sorted(tables - {"photos"})]:
                database.execute(f"CREATE TABLE {name} (a)")
    elif kind != "absent":
        place.write_bytes(SENTINEL if kind == "text" else b"")
    before = place.read_bytes() if place.exists() else None
    uri = f"sqlite:///{place}"
    mlflows = kind != "sqlite" or {"experiments", "runs"} <= tables  # of what is no database, MLflow says what it has lost
    optunas = kind in ("empty", "absent") or (kind == "sqlite" and {"studies", "trials", "version_info"} <= tables)
    for allowed, check in (
        (mlflows, lambda: check_tracking(uri)),
        (optunas, lambda: outputs.check_database(uri, "Optuna's", OPTUNAS, "--optuna")),
    ):
        if allowed:
            check()
        else:
            with pytest.raises(ConfigError, match="is no database of (MLflow|Optuna)'s. Choose another file with --"):
                check()
    if not mlflows:
        with pytest.raises(ConfigError, match="no database of MLflow's"):
            connect(uri)
    assert (place.read_bytes() if place.exists() else None) == before


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a device"])
def test_no_database_is_made_of_a_folder_a_pipe_or_a_study(what: str, study: Path, tmp_path: Path) -> None:
    place = tmp_path / "x.db"
    IN_THE_WAY[what](place)
    for path in (place, study / "study.json", study / "trials" / "x.db"):
        with pytest.raises(ConfigError, match="--mlflow"):
            check_tracking(f"sqlite:///{path}")


def test_reading_makes_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking.main(["fetch", str(tmp_path / "to"), "--mlflow", f"sqlite:///{tmp_path}/typo.db"]) == 2
    assert f"there is no file {tmp_path}/typo.db" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("asked", "there"), [(None, []), ("a", []), (None, ["a", "b"]), ("c", ["a"]), ("c", ["a", "b"])])
def test_a_server_that_holds_no_such_study_says_which_ones_it_holds(asked: str | None, there: list[str]) -> None:
    said = which_one("http://u:secret@h", asked, there)
    assert "secret" not in said and all(name in said for name in there) and ("tracking sync" in said) == (not there)
    assert (f"no study {asked}" in said) == (asked is not None and bool(there))
