"""Inputs are not trusted, and missing files are missed: manifests, weights, study files, measurements that stayed elsewhere."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from analysis import compare, report
from study import predict, run, sweep, trial
from study.datasets import __main__ as datasets_command
from study.errors import ConfigError, EnvironmentProblem
from study.measure import __main__ as measure_command
from study.networks.weights import find_weights
from study.question.studies import find_study, narrow
from study.question.trial_config import TrialConfig
from study.records import Origin, Outcome, Stage
from study.search.conductor import Conductor
from study.search.plans import FixedPlan
from study.storage.folder import Folder
from study.tracking import __main__ as tracking_command
from study.tracking.ledger import Ledger
from study.training.loop import fine_tune
from study.use.predictor import Predictor
from tests import tiny
from tests.test_kept import keep


@pytest.fixture
def best(tmp_path: Path, weights: Path) -> Path:
    keep("mobilenetv3_small_050", tmp_path, weights)
    return tmp_path / "best"


def rewrite(best: Path, **values: object) -> None:
    manifest = json.loads((best / "manifest.json").read_text())
    (best / "manifest.json").write_text(json.dumps({**manifest, **values}))


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "manifest.json", "pipe", 7, None], ids=str)
def test_a_manifest_cannot_choose_what_is_opened(name: object, best: Path, caplog) -> None:
    os.mkfifo(best / "pipe")
    rewrite(best, file=name)
    with pytest.raises(ConfigError, match="no intact network"):
        Predictor.from_folder(best.parent)
    assert "names no file of a checkpoint" in caplog.text


def test_a_pipe_or_a_device_in_the_place_of_weights_is_not_read(best: Path) -> None:
    (best / "model.safetensors").unlink()
    os.mkfifo(best / "model.safetensors")
    with pytest.raises(ConfigError, match="no intact"):
        Predictor.from_folder(best.parent)
    (best / "model.safetensors").unlink()
    (best / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no intact"):
        Predictor.from_folder(best.parent)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"arguments": {"checkpoint_path": "/etc/hostname"}}, "may not set 'checkpoint_path'"),
        ({"arguments": {"pretrained_cfg": {"url": "x"}}}, "may not set 'pretrained_cfg'"),
        ({"arguments": {"pad_type": ["same"]}}, "may not set 'pad_type'"),
        ({"arguments": []}, "is not the network its manifest describes"),
        ({"backbone": "resnet18"}, "is not the network its manifest describes"),
        ({"backbone": "no_such_network"}, 'it says backbone "no_such_network", its weights say'),
        ({"classes": ["a"]}, "is not the network its manifest describes"),
        ({"classes": 3}, "is not the network its manifest describes"),
        ({"backbone": None}, "is not the network"),
    ],
    ids=str,
)
def test_a_strangers_manifest_is_refused_in_one_line(values: dict, said: str, best: Path, capsys) -> None:
    rewrite(best, **values)
    (best.parent / "x.png").touch()  # what is not there is said first
    assert predict.main([str(best.parent), str(best.parent / "x.png")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert "may not set" in error or error.endswith(". Restore its files from where they came, or name another network.\n")


def test_weights_that_are_not_finite_predict_nothing(best: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    tensors = load_file(best / "model.safetensors")
    with safe_open(best / "model.safetensors", "pt") as file:
        says = file.metadata()
    tensors["classifier.weight"][0, 0] = float("nan")
    save_file(tensors, best / "model.safetensors", says)
    data = (best / "model.safetensors").read_bytes()
    rewrite(best, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ConfigError, match="not finite") as error:
        Predictor.from_folder(best.parent)
    assert "remove" not in str(error.value), "it lies in no study"


def test_a_folder_that_lies_in_no_study_is_never_to_be_removed(tmp_path: Path) -> None:
    own = tmp_path / "trials" / "x"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    for place, advised in ((None, False), ("study.json", True)):
        if place:
            (tmp_path / place).write_text("{}")
        with pytest.raises(ConfigError) as error:
            Predictor.from_folder(own)
        assert ("remove" in str(error.value)) == advised


def test_a_weights_file_cannot_send_timm_elsewhere(tmp_path: Path) -> None:
    import timm

    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors", {"timm_kwargs": '{"checkpoint_path": "/x"}'})
    with pytest.raises(ConfigError, match="may not set 'checkpoint_path'"):
        find_weights("resnet18", tmp_path)


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "import sys; sys.exit('done')", "raise RuntimeError('x')", "1/0"], ids=str)
def test_a_study_file_that_exits_is_an_error(line: str, tmp_path: Path, capsys) -> None:
    """A scheduler would take exit 0 for a study that is done."""
    (tmp_path / "my.py").write_text(line)
    assert sweep.main([str(tmp_path / "my.py"), "--results", str(tmp_path)]) == 2
    assert "cannot be run" in capsys.readouterr().err


def test_what_a_study_says_of_its_own_data_is_not_said_of_others() -> None:
    assert "miniatures" in narrow(find_study("quickstart")).about
    assert "miniatures" not in narrow(find_study("quickstart"), datasets=["folder:my_images"]).about


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_every_folder_is_its_owners_alone_under_any_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        Folder(str(tmp_path / "a")).write("b/c/d/file", b"x")
        Folder(str(tmp_path / "a")).append_line("b/e/lines", b"x")
    finally:
        os.umask(before)
    made = [p for p in (tmp_path / "a").rglob("*") if p.is_dir()] + [tmp_path / "a"]
    assert len(made) == 5 and {stat.S_IMODE(p.stat().st_mode) for p in made} == {0o700}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lost")
    study = tiny.write(root, ("linear_probe",), trials=1, seeds=2)
    assert sweep.main([str(study), "--local", "--mlflow", "off", "--results", str(root / "results")]) == 0
    return root


def test_a_run_whose_predictions_stayed_elsewhere_is_not_booked_as_completed(done: Path, tmp_path: Path) -> None:
    ledger = Ledger(done / "results", "tiny")
    ask = next(a for a in ledger.asks(Stage.CONFIRM) if a.origin is not Origin.LINE)
    other = Ledger(tmp_path, "tiny")
    conductor = Conductor(FixedPlan([ask], set()), other, lambda config: ["a"], lambda *event: None, ("predictions",))
    assert conductor.ask() == ask
    for record in ledger.epochs(ask.trial_id):
        conductor.epoch(ask.trial_id, record)
    with pytest.raises(EnvironmentProblem, match="every node must see the same --results folder"):
        conductor.end(ask.trial_id, Outcome.COMPLETED)
    assert other.result(ask.trial_id) is None, "it stays unfinished"


@pytest.mark.parametrize("kept", [True, False])
def test_a_completed_run_without_predictions_is_measured_on_resume_and_trained_again_without_its_network(
    kept: bool, done: Path, capsys, monkeypatch
) -> None:
    ledger = Ledger(done / "results", "tiny")
    trial = next(a.trial_id for a in ledger.asks(Stage.CONFIRM) if a.origin is not Origin.LINE)
    before, epochs = ledger.measured(trial, "predictions"), ledger.epochs(trial)
    ledger.trial_folder(trial).remove("measured")
    trained: list[str] = []
    monkeypatch.setattr(run, "fine_tune", lambda config, *rest, **named: (trained.append(config.id), fine_tune(config, *rest, **named))[1])
    if not kept:
        ledger.trial_folder(trial).remove("best")
    assert sweep.main([str(done / "my_study.py"), "--local", "--mlflow", "off", "--results", str(done / "results")]) == 0
    assert "left no predictions: its network is measured again" in capsys.readouterr().err
    assert trained == ([] if kept else [trial])
    assert ledger.measured(trial, "predictions") == before and ledger.epochs(trial) == epochs and len(ledger.test_openings()) == 1
    assert TrialConfig.from_dict(ledger.ask(trial).config).id == trial and torch.is_grad_enabled()


EVIL = "no\x1b[31msuch://user:secret@place"


@pytest.mark.parametrize(
    "command",
    [
        lambda: sweep.main([f"{EVIL}.py"]),
        lambda: trial.main(["no\x1b[31msuch/resnet18/full"]),
        lambda: predict.main([EVIL, EVIL]),
        lambda: measure_command.main([EVIL, "predictions"]),
        lambda: tracking_command.main(["sync", EVIL]),
        lambda: report.main([EVIL]),
        lambda: compare.main([EVIL, EVIL]),
        lambda: datasets_command.main(["check", EVIL]),
    ],
    ids=["sweep", "trial", "predict", "measure", "sync", "report", "compare", "datasets"],
)
def test_no_command_hands_a_terminal_escapes_or_a_secret(command, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command() in (2, 3, 4)
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "\x1b" not in said and "secret" not in said
