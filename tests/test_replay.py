"""A trial trained again from its ledger: equal to the last digit here, and differences are named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from study.measure import __main__ as measure
from study.records import Stage
from study.replay import chosen, main, threads_of
from study.tracking.ledger import Ledger
from tests import tiny
from tests.edited import edit_config


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("replay")
    done = tiny.run(tiny.write(root, trials=1), root / "results", "--local", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    return root / "results" / "tiny"


@pytest.fixture
def copy(studied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(studied, tmp_path / "results" / "tiny"))


def test_all_confirm_runs_and_the_verdict_come_out_the_same(studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(studied), "--all-confirm"]) == 0
    said = capsys.readouterr().out.splitlines()
    runs = [line for line in said if "numbers are equal" in line]
    assert len(runs) == len(Ledger(studied.parent, "tiny").asks(Stage.CONFIRM)) == 6, "the line to beat among them"
    assert all("all logits are equal" in line for line in runs)
    for line in runs:
        same, _, whole = line.partition(": ")[2].partition(" numbers")[0].partition(" of ")
        assert same == whole and int(whole) > (10 if "/features/" in line else 20), "what is solved has one epoch"
    assert [line for line in said if line.startswith("verdict")] == [line for line in said if line.startswith("verdict equal: digits")]
    assert not [p for p in studied.rglob("*") if "replay" in p.name], "nothing is left in the study"


def test_what_the_verdict_says_of_the_data_is_no_difference(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That images were made small is known from the report on the data."""
    file = copy / "data_report.json"
    report = json.loads(file.read_text())
    (own,) = [v for v in report.values() if isinstance(v, dict) and "counts" in v]
    own["median_side"] = 400
    file.write_text(json.dumps(report))
    assert main([str(copy), "--all-confirm"]) == 0
    (verdict,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("verdict")]
    assert verdict.startswith("verdict equal: digits") and "while the images have 400 px" in verdict


@pytest.mark.parametrize("here", [1, 2, 3])
def test_a_trial_has_the_threads_that_it_had(here: int, studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The study ran with one, whatever the machine would take now."""
    import torch

    ask, before = Ledger(studied.parent, "tiny").asks(Stage.SEARCH)[-1], torch.get_num_threads()
    torch.set_num_threads(here)
    try:
        assert main([str(studied), ask.trial_id]) == 0
        assert "cpu x" not in capsys.readouterr().out and torch.get_num_threads() == here, "and leaves the process its own"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["NVIDIA H200", "cpu x0", "cpu x99999", "cpu x", "cpu x2\n", None])
def test_no_record_sets_threads_that_cannot_be(device: str | None) -> None:
    import torch

    before = torch.get_num_threads()
    with threads_of({} if device is None else {"device": device}):
        assert torch.get_num_threads() in (before, 2)
    assert torch.get_num_threads() == before


def test_what_differs_is_named_with_how_much_and_what_is_not_as_it_was(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(copy.parent, "tiny")
    ask = ledger.asks(Stage.SEARCH)[0]
    file = copy / "trials" / ask.trial_id / "epochs.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["metrics"]["val/macro_f1"] += 0.125
    lines[0]["facts"]["device"] = "another processor"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([str(copy), ask.trial_id[:8]]) == 5
    said = capsys.readouterr().out
    assert "epoch 2, val/macro_f1: " in said and "(-0.125)" in said and said.count("epoch ") == 1
    assert "not as it was: device another processor, here cpu x1" in said


@pytest.mark.parametrize(
    "form", ["{cell}{stage}#{number}", "{cell}{stage} #{number}", "{strategy}{stage} #{number}", "digits {strategy}{stage}#{number}"]
)
def test_every_trial_is_found_by_its_name(form: str, studied: Path) -> None:
    """A search's trial and a confirm run once had one name, so neither was found by it."""
    ledger = Ledger(studied.parent, "tiny")
    for ask in ledger.asks():
        stage = "" if ask.stage is Stage.SEARCH else f" {ask.stage.value}"
        name = form.format(cell=ask.cell, strategy=ask.cell.split("/")[3], stage=stage, number=ask.number)
        assert chosen(ledger, [name], False) == [ask], name
    line = next(a for a in ledger.asks() if "/features/" in a.cell)
    assert chosen(ledger, [f"features #{line.number}"], False) == [line], "there is no other"


@pytest.mark.parametrize(
    "names, words",
    [
        ([], "--all-confirm"),
        (["nothing"], "names 0 trials"),
        (["#0"], "names 0 trials"),
        (["digits confirm #0"], "partial/0.1 confirm #0)"),
    ],
)
def test_refusals(names: list[str], words: str, studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(studied), *names]) == 2
    assert words in capsys.readouterr().err


def test_a_trial_of_several_workers_asks_for_as_many(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(copy.parent, "tiny")
    trial = edit_config(copy, ledger.asks(Stage.SEARCH)[0].trial_id, lambda c: c["protocol"].update(workers=2))
    assert main([str(copy), trial]) in (2, 4)
    assert "torchrun --nproc-per-node 2 -m study.replay" in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, report.main, measure.main], ids=["replay", "report", "measure"])
def test_what_was_edited_is_not_taken_for_what_was(command: Any, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = Ledger(copy.parent, "tiny").asks(Stage.CONFIRM)[0]
    file = copy / "trials" / ask.trial_id / "config.json"
    values = json.loads(file.read_text())
    values["config"]["recipe"]["label_smoothing"] = 0.25
    file.write_text(json.dumps(values))
    words = {main: [ask.trial_id], report.main: ["--out", str(tmp_path / "page.html")], measure.main: ["cka"]}[command]
    assert command([str(copy), *words]) == 4
    said = capsys.readouterr().err
    assert f"{ask.trial_id}/config.json is damaged (it was edited, and describes trial " in said and said.count("error: ") == 1
