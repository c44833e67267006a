"""A folder of images predicted by the network to use: calibrated, a row an image, gone on with after an interrupt."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import Results, export, predict
from study.use.images import find_images, read_batches
from study.use.predictor import Ensemble


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_predicted_calibrated_and_what_is_unreadable_is_a_row(used, digit_files: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.csv"
    assert predict.main([used.folder, str(digit_files), "--csv", str(out), "--batch", "5"]) == 0
    said = capsys.readouterr()
    assert "12 images predicted" in said.out and "1 cannot be read" in said.err and "left out: 1 files, .txt is not read" in said.err
    rows = rows_of(out)
    assert len(rows) == 13 and len({r["image"] for r in rows}) == 13
    (bad,) = (r for r in rows if r["problem"])
    assert bad["image"].endswith("broken.jpg") and bad["class"] == "" and "not JPEG" in bad["problem"]
    network, pick = used.predictor(), used.pick()
    assert network.temperature == pick.temperature != 1
    for row in (r for r in rows if not r["problem"]):
        expected = network(network.read(row["image"].removeprefix("'"))[None])[0]
        found = np.array([float(row[f"p({c})"]) for c in network.classes])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
        assert row["class"] == network.classes[expected.argmax()] and row["network"] == pick.trial


@pytest.mark.parametrize("form", [["--csv", "out.csv"], ["--json"], []])
def test_an_unfinished_study_is_said_to_be_one(form: list[str], used, digit_files: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(used.folder, tmp_path / "copy"))
    values = json.loads((copy / "study.json").read_text())
    for finished in (True, False):
        if not finished:
            del values["facts"]["finished_at"]
            (copy / "study.json").write_text(json.dumps(values))
        assert predict.main([str(copy), str(digit_files), *form]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ") and "in progress" in line]
        what = f"warning: {copy} is in progress: what it finds may still change. Finish it: python -m study.sweep {copy}"
        assert said == ([] if finished else [what])
    assert export.main([str(copy), "--to", str(tmp_path / "out"), "--format", "timm"]) == 0
    assert "in progress: what it finds may still change" in capsys.readouterr().err


def test_an_interrupted_table_is_gone_on_with(used: Results, digit_files: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.csv"
    assert predict.main([used.folder, str(digit_files), "--csv", str(out)]) == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (b"".join(lines[:7]) + lines[7][:20], lines[0], lines[0][:9], b"", b"".join(lines[:9]) + lines[9][:-1]):
        out.write_bytes(torn)
        capsys.readouterr()
        assert predict.main([used.folder, str(digit_files), "--csv", str(out)]) == 0
        assert sorted(r["image"] for r in rows_of(out)) == sorted(r["image"] for r in csv.DictReader(whole.decode().splitlines()))
    kept = b"".join(lines[:7])
    capsys.readouterr()
    assert predict.main([used.folder, str(digit_files), "--csv", str(out)]) == 0
    said = capsys.readouterr().err
    assert "12 images are there already" in said and "1 images that could not be read before are tried again" in said
    out.write_bytes(kept)
    other = min({"linear_probe", "partial"} - {used.pick().cell.strategy})
    assert predict.main([f"{used.folder}:{other}", str(digit_files), "--csv", str(out)]) == 2
    assert "holds predictions of another network" in capsys.readouterr().err and out.read_bytes() == kept
    out.write_text("a,b\n1,2\n")
    assert predict.main([used.folder, str(digit_files), "--csv", str(out)]) == 2 and "other columns" in capsys.readouterr().err


def test_a_table_of_predictions_holds_one_kind_and_only_a_file_is_gone_on_with(
    used: Results, digit_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, table = used.folder, tmp_path / "out.csv"
    assert predict.main([place, str(digit_files), "--csv", str(table)]) == 0
    before = table.read_bytes()
    assert predict.main([place, str(digit_files), "--csv", str(table), "--uncalibrated"]) == 2
    assert table.read_bytes() == before and "another network" in capsys.readouterr().err
    (tmp_path / "odd").mkdir()
    for name in ("ret\rurn.png", "line\nfeed.png"):
        (tmp_path / "odd" / name).write_bytes((digit_files / "d00.png").read_bytes())
    for _ in range(2):  # the second time there is nothing left to do
        assert predict.main([place, str(tmp_path / "odd"), "--csv", str(tmp_path / "odd.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "odd.csv")) == 2
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "is a pipe, no file"), (tmp_path, "is a folder")):
        assert predict.main([place, str(digit_files), "--csv", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_memory_holds_two_batches(digit_files: Path) -> None:
    images, held, most = find_images([digit_files]).images, set(), 0

    def read(path: str) -> np.ndarray:
        nonlocal most
        held.add(path)
        most = max(most, len(held))
        return np.zeros((4, 4, 1), np.uint8)

    for readable, _ in read_batches(images, read, 3):
        held -= {str(p) for p, _ in readable}
    assert not held and most <= 6


def test_an_ensemble_is_the_mean_of_its_networks(used: Results, digit_files: Path, capsys) -> None:
    both, pick = used.predictor(ensemble=True, calibrated=False), used.pick()
    assert isinstance(both, Ensemble) and len(both.members) == 2
    image = both.read(str(digit_files / "d00.png"))[None]
    np.testing.assert_allclose(both(image), np.mean([m(image) for m in both.members], axis=0), atol=1e-6)
    assert used.predictor(ensemble=True).temperature == pick.together.calibrated.temperature
    assert predict.main([used.folder, str(digit_files / "d00.png"), "--ensemble", "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["probabilities"]
    np.testing.assert_allclose(list(shares.values()), used.predictor(ensemble=True)(image)[0], rtol=1e-6)
    trial = f"{used.folder}/trials/{pick.trial}"
    assert predict.main([trial, str(digit_files / "d00.png"), "--ensemble"]) == 2 and "is one trial" in capsys.readouterr().err


def test_a_folder_is_predicted_with_sets(used: Results, digit_files: Path, tmp_path: Path, capsys) -> None:
    sets, file = used.prediction_sets(), tmp_path / "sets.csv"
    assert predict.main([used.folder, str(digit_files), "--csv", str(file), "--sets", "0.95"]) == 3 - 3
    assert sets.text in capsys.readouterr().err
    rows = [r for r in rows_of(file) if not r["problem"]]
    for row in rows:
        shares = {c: float(row[f"p({c})"]) for c in map(str, range(10))}
        expected = {c for c, p in shares.items() if p >= sets.least} | {row["class"]}
        assert set(row["in_set"].split(";")) == expected and row["in_set"].startswith(row["class"])
    assert len(rows) == 12 and max(len(r["in_set"].split(";")) for r in rows) > 1, "a network of one epoch is seldom sure"
    assert predict.main([used.folder, str(digit_files), "--csv", str(file), "--sets", "0.9"]) == 2, "a table holds sets of one level"
    one = str(digit_files / "d00.png")
    assert predict.main([used.folder, one, "--json", "--sets", "0.95"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["set"] == next(r["in_set"] for r in rows if r["image"].endswith("d00.png")).split(";")
    assert predict.main([used.folder, one, "--sets", "0.95", "--ensemble"]) == 0 and "\tset: " in capsys.readouterr().out
    trial = f"{used.folder}/trials/{used.pick().trial}"
    assert predict.main([trial, one, "--sets", "0.95"]) == 2 and "give a study" in capsys.readouterr().err


def test_a_picture_of_something_else_is_told_by_features_that_are_made_once(
    used: Results, digit_files: Path, tmp_path: Path, capsys
) -> None:
    one = str(digit_files / "d00.png")
    assert predict.main([used.folder, one, "--json", "--none"]) == 0
    first = capsys.readouterr()
    ledger = used.frames.ledger
    assert sum(ledger.trial_folder(a.trial_id).exists("known_features.npz") for a in ledger.asks()) == 1
    assert '"none of these"' in first.err and "left out in turn" in first.err
    assert predict.main([used.folder, one, "--json", "--none", "--data", str(tmp_path / "nothing")]) == 0, "the features lie there"
    assert capsys.readouterr().out == first.out
    on = "is off" not in first.err
    assert ("none_of_these" in json.loads(first.out)) == on
    file = tmp_path / "none.csv"
    assert predict.main([used.folder, str(digit_files), "--csv", str(file), "--none", "--sets", "0.9"]) == 0
    assert list(rows_of(file)[0])[13:] == ["in_set", *(["none_of_these"] if on else []), "problem", "network"]
    trial = f"{used.folder}/trials/{used.pick().trial}"
    assert predict.main([trial, one, "--none"]) == 2 and "give the study" in capsys.readouterr().err


def test_what_travels_with_a_network_has_its_sets(used: Results, tmp_path: Path, capsys) -> None:
    assert export.main([used.folder, "--format", "timm", "--to", str(tmp_path / "out")]) == 0
    about = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert about["sets"]["least_probability"]["0.95"] == used.prediction_sets().least and "validation images" in about["sets"]["source"]
    assert any("least_probability" in step for step in about["steps"])
    (facts,) = [p for p in used.frames.facts["picks"] if p["trial"] == used.pick().trial]
    assert facts["sets"] == about["sets"]
    assert "| 95 % | " in used.model_card()


@pytest.mark.parametrize(("images", "said"), [("nothing here", "does not exist"), ("empty", "holds no image")])
def test_where_no_image_is_one_line_says_so(used: Results, images: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert predict.main([used.folder, str(tmp_path / images)]) == 2 and said in capsys.readouterr().err


def test_an_interrupted_prediction_is_one_line(used: Results, digit_files: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(predict, "to_lines", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert predict.main([used.folder, str(digit_files)]) == 130
    assert capsys.readouterr().err == "stopped. With --csv, the same command goes on\n"
