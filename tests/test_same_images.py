"""A study that goes on knows its images by what they show, and so do commands that measure or train its runs again."""

import dataclasses
import itertools
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study import replay, sweep
from study.conduct.checks import check_data
from study.conduct.same_images import check_begun, check_same, twice_there
from study.datasets import CATALOG, open_dataset
from study.datasets.audit import audit
from study.datasets.contents import DIGITS, contents, digest
from study.errors import DataError
from study.measure import __main__ as measuring
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import dumps
from study.results import run_study
from study.storage.places import find_places
from study.tracking.ledger import Ledger
from tests.own import classes, scene

SMALL = Protocol(max_epochs=1, warmup_epochs=0, image_size=32)


def asked(name: str, **fields: object) -> Study:
    cells = grid([name], ["efficientnet_lite0"], ["linear_probe"])
    plain = {"trials": 1, "random_trials": 0, "grace_epochs": 1, "confirm_seeds": 1, "budget_check": 0, "line_size": 32}
    return Study(name="s", cells=cells, protocol=SMALL, **{**plain, **fields})  # type: ignore[arg-type]


def made(root: Path, kind: str) -> str:
    """Write a data set of 3 classes of 12 photographs, as lossless files of every format, and return its name."""
    classes(root, {"ash": 12, "elm": 12, "oak": 12})
    if kind == "folder":
        return f"folder:{root}"
    rows = [f"{p.relative_to(root).as_posix()},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(["file,label", *rows]))
    return f"table:{root}/labels.csv"


def begun(name: str, root: Path) -> Ledger:
    """Return a ledger as the sweep's checks leave it, with nothing trained."""
    ledger = Ledger(str(root), "s")
    ledger.begin(asked(name), {})
    table = open_dataset(name)
    marks = check_same({(name, "official"): table}, ledger)
    ledger.folder.write("data_report.json", dumps({k: {"form": table.form, **v} for k, v in marks.items()}).encode())
    return ledger


def one_pixel(file: Path) -> None:
    pixels = np.asarray(Image.open(file)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file)


def two_swapped(file: Path) -> None:
    other = file.with_name("011.png" if file.name != "011.png" else "010.png")
    a, b = file.read_bytes(), other.read_bytes()
    file.write_bytes(b)
    other.write_bytes(a)


CHANGES: dict[str, Callable[[Path], object]] = {
    "another": lambda f: scene(90_000 + zlib.crc32(f.as_posix().encode())).save(f),
    "pixel": one_pixel,
    "turned": lambda f: Image.open(f).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(f),
    "smaller": lambda f: Image.open(f).resize((24, 18)).save(f),
    "grey": lambda f: Image.open(f).convert("L").save(f),
    "swapped": two_swapped,
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "touched": lambda f: os.utime(f, (1, 1)),
    "written again": lambda f: f.write_bytes(f.read_bytes()),
    "packed otherwise": lambda f: Image.open(f).save(f, compress_level=0),
    "copied": lambda f: (shutil.copy(f, f"{f}.tmp"), os.replace(f"{f}.tmp", f)),
}


@pytest.mark.parametrize("kind", ["folder", "table"])
@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_images_are_known_by_what_they_show(kind: str, change: str, tmp_path: Path) -> None:
    """Some images of a begun study change under their names, any number of them: they are refused and named, or seen to be the same."""
    root = tmp_path / "own"
    name = made(root, kind)
    ledger, files = begun(name, tmp_path), sorted(root.rglob("*.png"))
    before = {f: f.read_bytes() for f in files}
    for count in (1, 2, 12, 36):
        chosen = sorted(random.Random(count).sample(files, count)) if change != "swapped" else [files[k] for k in (0, 13, 25)][:count]
        for file in chosen:
            (CHANGES | NO_CHANGES)[change](file)
        if change in NO_CHANGES:
            check_begun(ledger, [name], find_places(str(tmp_path)))
        else:
            with pytest.raises(DataError, match="are not those .* was begun with") as refused:
                check_begun(ledger, [name], find_places(str(tmp_path)))
            if "by their pixels" in str(refused.value):
                assert chosen[0].relative_to(root).as_posix() in str(refused.value)
        for file, data in before.items():
            file.write_bytes(data)
        check_begun(ledger, [name], find_places(str(tmp_path)))


def move(file: Path) -> list[str]:
    file.rename(file.parent.parent / "elm" / "z.png")
    return ["1 new: elm/z.png", "1 gone: ash/000.png"]


def add(file: Path) -> list[str]:
    for k in range(5):
        scene(70_000 + k).save(file.with_name(f"new {k}.png"))
    return ["5 new: ash/new 0.png, ash/new 1.png, ash/new 2.png and 2 more"]


def remove(file: Path) -> list[str]:
    file.unlink()
    return ["1 gone: ash/000.png"]


@pytest.mark.parametrize("change", [move, add, remove])
def test_images_that_came_or_went_are_named(change: Callable[[Path], list[str]], tmp_path: Path) -> None:
    root = tmp_path / "own"
    name = made(root, "folder")
    begun(name, tmp_path)
    said = change(root / "ash" / "000.png")
    with pytest.raises(DataError, match="are not those .* was begun with") as refused:
        check_begun(Ledger(str(tmp_path), "s"), [name], find_places(str(tmp_path)))
    assert all(part in str(refused.value) for part in said) and "another label" not in str(refused.value)


@pytest.mark.parametrize("name", ["digits", "mini_faces", "mini_weeds"])
def test_every_data_set_has_contents_and_keeps_them(name: str) -> None:
    assert name in CATALOG
    table = open_dataset(name)
    found = contents(table)
    assert found == contents(table) == [digest(table.decode(k))[:DIGITS] for k in range(len(table.ids))]
    other = dataclasses.replace(table, fingerprint="0" * 64 if name == "digits" else "1" * 64, decode=lambda k: 255 - table.decode(k))
    assert not set(contents(other)) & set(found)


def test_another_decoder_is_said_and_no_other_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = made(tmp_path / "own", "folder")
    ledger = begun(name, tmp_path)
    report = ledger.data_report()
    known = report[f"{name}@official"]["contents"]
    known |= {"decoder": "pillow 1.0"}
    ledger.folder.write("data_report.json", dumps(report).encode())
    check_begun(ledger, [name], find_places(str(tmp_path)))
    assert "warning" not in capsys.readouterr().err, "the same pixels by both"
    known |= {"digests": "0" * DIGITS + known["digests"][DIGITS:]}
    ledger.folder.write("data_report.json", dumps(report).encode())
    check_begun(ledger, [name], find_places(str(tmp_path)))
    assert "1 of its 36 images have other pixels" in capsys.readouterr().err


def test_a_study_begun_before_images_were_known_goes_on_and_knows_them_from_then_on(tmp_path: Path) -> None:
    name = made(tmp_path / "own", "folder")
    ledger = begun(name, tmp_path)
    report = ledger.data_report()
    del report[f"{name}@official"]["contents"]
    ledger.folder.write("data_report.json", dumps(report).encode())
    check_begun(ledger, [name], find_places(str(tmp_path)))


def test_replaced_images_are_refused_by_whatever_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs on old and new pixels were once averaged and a verdict printed, and replay said that nothing recorded was different."""
    root = tmp_path / "own"
    name = made(root, "folder")
    run_study(asked(name), results=tmp_path, local=True)
    folder, files = str(tmp_path / "s"), sorted(root.rglob("*.png"))
    locked = Ledger(str(tmp_path), "s").test_openings()
    for k, file in enumerate(files):
        scene(50_000 + k).save(file)
    more = ["--local", "--mlflow", "off"]
    for run in (
        lambda: sweep.main([folder, "--confirm-seeds", "4", *more]),
        lambda: sweep.main([folder, "--confirm-seeds", "4", "--dry-run"]),
        lambda: replay.main([folder, "--all-confirm"]),
        lambda: measuring.main([folder, "predictions", "--again"]),
        lambda: measuring.main([folder, "calibration"]),
    ):
        capsys.readouterr()
        assert run() == DataError.exit_code
        assert "36 of its 36 images are not those" in (said := capsys.readouterr().err) and "ash/000.png" in said and said.count("\n") == 1
    assert Ledger(str(tmp_path), "s").test_openings() == locked


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=4))
def test_data_sets_that_share_images_are_named_with_how_many(drawn: list[list[int]]) -> None:
    """One folder under two names was once two data sets, and what was found on both was found twice."""
    marks = {f"d{k}@official": {"contents": {"digests": "".join(f"{one:0{DIGITS}}" for one in own)}} for k, own in enumerate(drawn)}
    lines = twice_there(marks)
    for a, b in itertools.combinations(range(len(drawn)), 2):
        shared = sum(min(drawn[a].count(one), drawn[b].count(one)) for one in range(1, 10))  # 0 stands for what cannot be decoded
        said = [line for line in lines if line.startswith(f"d{a}: ") and f"images of d{b} too" in line]
        assert len(said) == (shared > 0) and (not shared or said[0].startswith(f"d{a}: {shared} of its "))
    assert not twice_there({"d@official": marks["d0@official"], "d@session": marks["d0@official"]}), "splits of one data set"


def test_marks_take_the_place_of_nothing_that_the_doctor_found(tmp_path: Path) -> None:
    name = made(tmp_path / "own", "folder")
    ledger, table = Ledger(str(tmp_path), "s"), open_dataset(name)
    ledger.begin(asked(name), {})
    check_data({(name, "official"): table}, ledger)
    found, (kept,) = audit(table).as_dict(), ledger.data_report().values()
    assert {key: kept[key] for key in found} == json.loads(json.dumps(found)) and kept["images"] == 36


def test_a_link_to_a_data_set_is_seen_to_be_it(tmp_path: Path) -> None:
    made(tmp_path / "own", "folder")
    (tmp_path / "link").symlink_to("own")
    names = [f"folder:{tmp_path}/{name}" for name in ("own", "link")]
    ledger = Ledger(str(tmp_path), "s")
    ledger.begin(asked(names[0]), {})
    lines = check_data({(name, "official"): open_dataset(name) for name in names}, ledger)
    assert any(f"36 of its 36 images are images of {names[1]} too" in line for line in lines)


@pytest.mark.parametrize("kind", ["folder", "table"])
@pytest.mark.parametrize("growth", [["--confirm-seeds", "3"], ["--trials", "4"], ["--strategies", "partial"], []])
def test_a_start_that_is_refused_leaves_the_study_as_it_was(
    kind: str, growth: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished study once stood as grown, and unfinished for good, though its images were refused."""
    root = tmp_path / "own"
    name = made(root, kind)
    ledger = begun(name, tmp_path)
    one_pixel(sorted(root.rglob("*.png"))[7])

    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file() and not p.name.startswith(".lock")}

    before = files()
    assert sweep.main([ledger.folder.location, *growth, "--local", "--mlflow", "off"]) == DataError.exit_code
    assert "1 of its 36 images are not those" in capsys.readouterr().err
    assert files() == before and not ledger.amendments()


def test_other_labels_are_refused_where_runs_are_measured_or_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, 4 of the 10 new test images had been trained on, and the report said 39.7."""
    name = made(tmp_path / "own", "table")
    run_study(asked(name), results=tmp_path, local=True)
    table = tmp_path / "own" / "labels.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows[:4], *reversed(rows[4:])]).replace("000.png,ash", "000.png,oak"))
    folder = str(tmp_path / "s")
    for run in (lambda: measuring.main([folder, "predictions", "--again"]), lambda: replay.main([folder, "--all-confirm"])):
        capsys.readouterr()
        assert run() == DataError.exit_code
        said = capsys.readouterr().err
        assert "its images, their labels or their splits are not those" in said and "(1 with another label: ash/000.png);" in said
