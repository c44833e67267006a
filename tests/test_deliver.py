"""The network that is handed over: trained on all images that may be used, scored once, resumable, kept, and accepted by every command."""

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score

from analysis.data.predictions import read_predictions
from analysis.findings.verdict_pairs import look
from analysis.load import load
from study import Results, deliver, demo, export, load_study, predict, sweep
from study.conduct.candidates import Candidate, candidates
from study.conduct.delivery import ordered, plan_lines
from study.conduct.pipeline import conduct
from study.console.signals import Interrupted
from study.datasets import open_dataset
from study.datasets.spec import TEST, TRAIN, VAL, subsample, with_validation
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Outcome, Stage
from study.run import Ending, open_images, open_inputs, run_trial
from study.search import local
from study.storage.options import Options
from study.storage.places import Places
from study.tracking.ledger import DELIVERY, Ledger
from tests import tiny

CELL = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="linear_probe", train_fraction=0.1)
SMALL = Protocol(max_epochs=2, image_size=32, batch_size=64, views=2, train_eval_images=32, warmup_epochs=0.5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the tiny study as a sweep leaves it, trained long enough that a trained network leads, and not the line to beat."""
    root = tmp_path_factory.mktemp("finished")
    study = tiny.write(root, protocol=", min_steps=40", batch=16)
    assert sweep.main([str(study), "--local", "--mlflow", "off", "--results", str(root / "results")]) == 0
    return root / "results" / "tiny"


@pytest.fixture(scope="module")
def delivered(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = shutil.copytree(finished, tmp_path_factory.mktemp("delivered") / "tiny")
    assert deliver.main([str(place)]) == 0
    return place


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of which nothing was delivered."""
    return shutil.copytree(finished, tmp_path / "tiny")


def ledger_at(place: Path) -> Ledger:
    return Ledger(place.parent, place.name)


def entry_of(place: Path) -> dict:
    (entry,) = ledger_at(place).delivered().values()
    return entry


def tables_of(place: Path) -> dict:
    return {("digits", "official"): open_dataset("digits")}


# ---- training on training and validation images ---------------------------------------------------------------


@pytest.mark.parametrize("there", ["the first folder", "moved away", "a central database", "a server"])
def test_a_copied_study_goes_on_in_the_database_beside_it(there: str, tmp_path: Path) -> None:
    """A delivery in a copied results folder once named the MLflow of the folder that it was copied from."""
    from study.deliver import _mlflow

    first, ledger = tmp_path / "first", Ledger(tmp_path / "second", "s")
    if there != "moved away":
        (first / "s").mkdir(parents=True)
        (first / "mlflow.db").touch()
    if there == "the first folder":
        (first / "s" / "study.json").touch()
    uri = "http://server:5000" if there == "a server" else f"sqlite:///{first}/mlflow.db"
    ledger.folder.write("mlflow.json", json.dumps({"uri": uri}).encode())
    chosen, unsent = _mlflow(ledger, None)
    if there in ("the first folder", "moved away"):
        assert (chosen, unsent) == (None, [])
    else:
        assert chosen == "off" and f"--mlflow {uri}" in unsent[0]


def test_validation_images_become_training_images_and_test_images_never() -> None:
    places = Places(folder="")
    own = TrialConfig.default(CELL, SMALL)
    both = dataclasses.replace(own, train_on="train+val")
    before, after = open_inputs(own, places), open_inputs(both, places)
    assert len(after.val) == 0 and len(before.val) > 0
    seen = [{int(i.images.numbers[k]) for k in (*i.train, *i.val)} for i in (before, after)]
    assert seen[0] == seen[1] == {int(i.images.numbers[k]) for i in (after,) for k in after.train}
    split = open_dataset("digits").split
    assert not any(split[k] == TEST for k in seen[1]) and sum(split[k] == VAL for k in seen[1]) == (split == VAL).sum()
    assert not (set(np.flatnonzero(split == TEST)) & set(after.images.numbers.tolist()))
    table, _ = open_images(both, places)
    assert (table.split == TEST).sum() == (split == TEST).sum()


def test_its_part_of_the_id_is_late_and_no_other_value_exists() -> None:
    own = TrialConfig.default(CELL, SMALL)
    both = dataclasses.replace(own, train_on="train+val")
    assert "train_on" not in own.as_dict() and both.id != own.id and TrialConfig.from_dict(json.loads(json.dumps(both.as_dict()))) == both
    with pytest.raises(ConfigError, match="train or train\\+val"):
        dataclasses.replace(own, train_on="val")  # type: ignore[arg-type]


def test_weights_of_images_keep_a_mean_of_one_over_what_is_trained_on() -> None:
    table = open_dataset("digits")
    weighed = dataclasses.replace(table, weights=np.linspace(0.1, 3, len(table.labels)).astype(np.float32))
    both = with_validation(subsample(weighed, 0.3))
    assert both.weights is not None and both.weights[both.split == TRAIN].mean() == pytest.approx(1)
    assert not (both.split == VAL).any() and (both.split == TEST).sum() == (table.split == TEST).sum()


def test_without_validation_the_last_epoch_is_kept_and_nothing_is_selected_by_it(tmp_path: Path) -> None:
    config = dataclasses.replace(TrialConfig.default(CELL, SMALL), train_on="train+val")
    records = []

    def report(record) -> bool:
        records.append(record)
        return False

    ending = run_trial(config, Places(folder=str(tmp_path)), report, measurements=("predictions",))
    assert ending.outcome is Outcome.COMPLETED and [r.epoch for r in records] == [1, 2]
    assert all(not any(k.startswith("val/") for k in r.metrics) and r.confusion is None and r.objective == -np.inf for r in records)
    assert json.loads((tmp_path / "best" / "manifest.json").read_text())["epoch"] == 2
    assert all("train/accuracy" in r.metrics for r in records)


# ---- the study's own ------------------------------------------------------------------------------------------


def test_what_was_delivered_was_trained_on_all_images_for_the_length_that_did_best(delivered: Path) -> None:
    ledger, entry = ledger_at(delivered), entry_of(delivered)
    ask, result = ledger.ask(entry["trial"]), ledger.result(entry["trial"])
    config = TrialConfig.from_dict(ask.config)
    split = open_dataset("digits").split
    kept = sum(max(round(n * 0.1), 1) for n in open_dataset("digits").counts()["train"])
    assert entry["images"] == result.facts["train_images"] == kept + (split == VAL).sum()
    assert config.train_on == "train+val" and config.seed == entry["seed"] and result.best_epoch == entry["epochs"]
    assert config.protocol.max_epochs == entry["epochs"] == result.epochs and ask.stage is Stage.DELIVER
    won = TrialConfig.from_dict(ledger.winners()[ask.cell].config)
    assert (config.strategy, config.recipe) == (won.strategy, won.recipe), "the best of the search on validation"
    for length in entry["lengths"]:
        last = [ledger.epochs(t)[-1].metrics["val/macro_f1"] for t in length["trials"]]
        assert last == length["validation"] and len(last) == 2
        assert all(TrialConfig.from_dict(ledger.ask(t).config).protocol.max_epochs == length["epochs"] for t in length["trials"])
    assert entry["validation"] == np.mean(next(n["validation"] for n in entry["lengths"] if n["epochs"] == entry["epochs"]))
    seeds = [[ledger.ask(t).config["seed"] for t in n["trials"]] for n in entry["lengths"]]
    assert all(set(own) == set(seeds[0]) for own in seeds) and len(set(seeds[0])) == 2, "lengths pair up"
    assert config.seed not in seeds[0]
    assert not {*seeds[0], config.seed} & {a.config["seed"] for a in ledger.asks(Stage.SEARCH)}, "nothing was tuned on them"


def test_confirm_runs_are_taken_and_not_trained_again(delivered: Path) -> None:
    ledger, entry = ledger_at(delivered), entry_of(delivered)
    first = entry["lengths"][0]
    assert first["epochs"] == 2 and {ledger.ask(t).stage for t in first["trials"]} == {Stage.CONFIRM}
    assert len(ledger.asks(Stage.DELIVER)) == 2 * (len(entry["lengths"]) - 1) + 1
    kept = {t for t in ledger.trial_ids() if ledger.trial_folder(t).exists("best/manifest.json")}
    assert {a.trial_id for a in ledger.asks(Stage.DELIVER)} & kept == {entry["trial"]}, "one network of the delivery is kept"


def test_its_score_is_that_of_its_network_on_the_test_images(delivered: Path) -> None:
    entry, found = entry_of(delivered), load_study(delivered)
    config = TrialConfig.from_dict(ledger_at(delivered).ask(entry["trial"]).config)
    table, pixels = open_images(config, Places(folder=str(delivered)))
    test = np.flatnonzero(table.split == TEST)
    said = found.predictor().logits(pixels[test]).argmax(axis=1)
    score = f1_score(table.labels[test], said, average="macro")
    assert entry["test"]["mean"] == pytest.approx(score) == pytest.approx(found.pick().test.mean)
    assert entry["test"]["low"] < score < entry["test"]["high"]
    own = found.frames.predictions(entry["trial"])
    assert set(own) == {"test"}, "what it says of images that it was trained on is no prediction"
    compared = found.pick("compared")
    runs = [found.frames.predictions(t)["test"] for t in compared.trials]
    mean = np.mean([f1_score(p.labels, p.logits.argmax(axis=1), average="macro") for p in runs])
    assert found.pick().delivered.compared == pytest.approx(mean)


def test_its_look_at_the_test_set_is_recorded_and_does_not_count(finished: Path, delivered: Path) -> None:
    before, after = load(str(finished)), load(str(delivered))
    assert look(before) == look(after) == 1 == len(after.openings)
    (mine,) = (o for o in ledger_at(delivered).test_openings() if o.get("note"))
    assert mine["note"] == DELIVERY == "delivery, not counted" and mine["trials"] == [entry_of(delivered)["trial"]]
    a, b = Results(before), Results(after)
    assert a.pairs.equals(b.pairs) and a.strategies.equals(b.strategies) and list(a.verdicts.sentence) == list(b.verdicts.sentence)
    assert a.warnings == b.warnings
    fresh = {x.trial_id for x in ledger_at(delivered).asks(Stage.DELIVER)} - set(mine["trials"])
    names = {n for t in fresh for n in ledger_at(delivered).measurements(t)}
    assert names == {"validation"}, "runs that choose a length are not shown the test images"
    assert all(set(read_predictions(after.ledger, t, "validation")) == {"val"} for t in fresh)


def test_the_page_says_what_was_compared_and_what_is_delivered(delivered: Path) -> None:
    entry, text = entry_of(delivered), (delivered / "report.html").read_text()
    section = text[text.index('id="use-it"') :].partition("</section>")[0]
    said = f"delivered: {entry['strategy']}, {entry['epochs']} epochs, trained on {entry['images']} images: "
    assert f"{said}test macro-F1 {100 * entry['test']['mean']:.1f} [" in section
    assert f"the networks compared above: {100 * entry['compared']['test']:.1f}" in section
    assert f"trials/{entry['trial']}/best" in section and f"after {entry['epochs']} epochs" in section
    error = entry["calibration"]["after"]
    assert f"on images it was not fitted on {100 * error:.1f} %" in section and "Opened once" in text
    assert "deliver</td>" in text or ">deliver<" in text, "what it cost stands in the budget"
    facts = ledger_at(delivered).facts()
    assert [p["trial"] for p in facts["picks"]] == [entry["trial"]] and "Delivered: " in facts["picks"][0]["delivered"]


# ---- who takes it -----------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray((load_digits().images[3] * 15.9).astype(np.uint8)).resize((24, 30)).save(tmp_path / "d.png")
    return tmp_path / "d.png"


def test_predict_takes_it_and_the_compared_ones_go_by_name(delivered: Path, picture: Path, tmp_path: Path, capsys) -> None:
    entry, found = entry_of(delivered), load_study(delivered)
    networks = {}
    for name, which in (("own", ""), ("data set", ":digits"), ("compared", ":compared"), ("strategy", ":partial")):
        out = tmp_path / f"{name}.csv"
        assert predict.main([f"{delivered}{which}", str(picture), "--csv", str(out)]) == 0
        networks[name] = out.read_text().splitlines()[1].rpartition(",")[2]
        told = capsys.readouterr().err
        assert ("delivered: " in told) == (name in ("own", "data set")) and "temperature" in told
    assert networks["own"] == networks["data set"] == entry["trial"] == found.pick().trial
    compared = found.pick("compared")
    assert networks["compared"] == compared.trial and compared.delivered is None and compared.leads
    assert networks["strategy"] == found.pick("partial").trial and found.pick("partial").cell.strategy == "partial"
    assert found.pick(compared=True) == compared and found.pick(compared.cell) == compared
    network = found.predictor()
    assert network.temperature == entry["temperature"] == found.pick().temperature and network.kept.trial == entry["trial"]
    assert found.predictor(ensemble=True).members[0].kept.trial in compared.trials, "an ensemble is of confirm runs"
    with pytest.raises(ConfigError, match="'full' names 0 cells"):
        found.pick("full")


def test_export_card_and_demo_take_it(delivered: Path, picture: Path, tmp_path: Path, capsys) -> None:
    entry, found = entry_of(delivered), load_study(delivered)
    assert export.main([str(delivered), "--to", str(tmp_path / "out"), "--check", str(picture)]) == 0
    assert "delivered: " in capsys.readouterr().out
    about, card = (json.loads((tmp_path / "out" / "preprocessing.json").read_text()), (tmp_path / "out" / "MODEL_CARD.md").read_text())
    assert about["temperature"] == entry["temperature"] and card == found.model_card()
    assert f"Trial `{entry['trial']}`" in card and f"trained on {entry['images']} images" in card
    assert f"epoch {entry['epochs']} of {entry['epochs']}" in card and f"| {100 * entry['compared']['test']:.1f} | none |" in card
    assert f"Trial `{found.pick('compared').trial}`" in found.model_card("compared")
    shown = demo.Demo(found, "", data=None, images=10_000)
    assert "delivered: " in shown.about and shown.network.kept.trial == entry["trial"]
    assert shown.neighbours is not None and len(shown.neighbours.names) == entry["images"], "validation images are training images now"


def test_a_soup_is_still_of_confirm_runs(delivered: Path, tmp_path: Path, capsys) -> None:
    code = export.main([f"{delivered}:partial", "--soup", "--to", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert code in (0, 2) and "soup" in told.out + told.err, "made, or refused for what it scores"
    assert export.main([str(delivered), "--soup", "--to", str(tmp_path / "other")]) in (0, 2)
    assert "no confirm run" not in capsys.readouterr().err


def test_the_registered_best_is_what_was_delivered(finished: Path, tmp_path: Path) -> None:
    """This also holds where the study was sent to its end before: the alias moves, and the compared network stays a version."""
    from study.conduct.pipeline import report
    from study.tracking.mirror import Mirror

    place = shutil.copytree(finished, tmp_path / "tiny")
    ledger = ledger_at(place)
    assert Mirror(ledger).sync().pending == 0
    client = Mirror(ledger).runs.client
    compared = load_study(place).pick().trial
    assert client.get_model_version_by_alias("tiny-digits", "best").tags["trial"] == compared
    assert deliver.main([str(place), "--hours", "1", "--mlflow", "off"]) == 0
    report(ledger)
    assert Mirror(ledger).sync().pending == 0 and Mirror(ledger).sync().sent == 0
    best, entry = client.get_model_version_by_alias("tiny-digits", "best"), entry_of(place)
    assert best.tags["trial"] == entry["trial"] != compared and f"trained on {entry['images']} images" in best.description
    assert float(best.tags["test_macro_f1"]) == pytest.approx(entry["test"]["mean"], abs=1e-4)
    assert float(best.tags["temperature"]) == pytest.approx(entry["temperature"], abs=1e-4)
    assert {v.tags["trial"] for v in client.search_model_versions("name = 'tiny-digits'")} == {compared, entry["trial"]}


# ---- interrupted, grown, again ----------------------------------------------------------------------------------


class Killed(BaseException):
    """An exception that nobody catches, like a signal."""


def test_it_goes_on_from_any_kill_and_ends_the_same(fresh: Path, delivered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def kill_at(name: str, at: int) -> None:
        real, calls = getattr(Ledger, name), [0]

        def once(self: Ledger, *args):
            calls[0] += 1
            if calls[0] == at:
                steps.append(name)
                raise Killed
            return real(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, name, once)
            with pytest.raises(Killed):
                deliver.main([str(fresh)])
        assert not (fresh / "delivered.json").exists()

    kill_at("write_ask", 1)
    kill_at("append_epoch", 4)  # in the middle of the first run of three times the epochs
    for _ in range(2):
        kill_at("write_result", 1)
    kill_at("write_ask", 1)
    kill_at("append_epoch", 11)  # in the middle of ten times as many
    kill_at("open_test", 1)
    kill_at("append_epoch", 1)
    kill_at("write_result", 1)
    kill_at("write_delivered", 1)
    assert len(steps) == 10
    assert deliver.main([str(fresh)]) == 0
    ours, theirs = ({k: v for k, v in entry_of(p).items() if k != "at"} for p in (fresh, delivered))
    assert ours == theirs
    a, b = ([tiny.told(t) for t in sorted(ledger_at(p).trials(), key=lambda t: t.ask.trial_id)] for p in (fresh, delivered))
    assert a == b, "to the last digit"
    assert len(ledger_at(fresh).test_openings()) == 2


def test_a_signal_ends_it_with_the_way_out(fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    real = Ledger.append_epoch

    def once(self: Ledger, *args) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append_epoch", once)
        assert deliver.main([str(fresh)]) == 130
    assert "Resume with the same command" in capsys.readouterr().err and not (fresh / "delivered.json").exists()
    assert not (fresh / ".lock").exists() and load_study(fresh).pick().delivered is None


def test_growth_keeps_it_and_again_keeps_the_earlier_one(delivered: Path, tmp_path: Path, capsys) -> None:
    place = shutil.copytree(delivered, tmp_path / "tiny")
    before = entry_of(place)
    assert deliver.main([str(place)]) == 0 and f"(trial {before['trial']}), and it stays" in capsys.readouterr().out
    assert sweep.main([str(place), "--confirm-seeds", "3", "--local", "--mlflow", "off"]) == 0
    told = capsys.readouterr().out
    assert entry_of(place) == before and "before the study grew on" in told and "--again" in told
    page = (place / "report.html").read_text()
    assert re.search(r"delivered on \d{4}-\d\d-\d\d, before the study grew on \d{4}-\d\d-\d\d: to deliver anew, run", page)
    assert load_study(place).pick().trial == before["trial"] and "before the study grew" in load_study(place).pick().outdated
    assert deliver.main([str(place)]) == 0 and "before the study grew on" in capsys.readouterr().out and entry_of(place) == before
    assert look(load(str(place))) == 2, "the runs that joined are a look, the delivery is none"

    assert deliver.main([f"{place}:linear_probe", "--again"]) == 0  # by name: on frozen features ten times the epochs are soon trained
    after = entry_of(place)
    assert after["earlier"] == [before] and after["at"] > before["at"] and len(after["lengths"][0]["trials"]) == 3
    assert not load_study(place).pick().outdated and look(load(str(place))) == 2
    assert "before the study grew" not in (place / "report.html").read_text()


def test_a_study_that_asks_delivers_by_itself_once(fresh: Path, delivered: Path, capsys) -> None:
    line = [str(fresh), "--local", "--mlflow", "off"]
    assert sweep.main([*line, "--set", "deliver=true"]) == 0
    assert ledger_at(fresh).study().deliver and not ledger_at(fresh).amendments(), "it is no growth"
    said = capsys.readouterr().out
    assert entry_of(fresh)["trial"] == entry_of(delivered)["trial"] and "delivered for digits: " in said
    assert "delivered: " in (fresh / "report.html").read_text()
    before = (fresh / "delivered.json").read_bytes()
    assert sweep.main(line) == 0 and (fresh / "delivered.json").read_bytes() == before


def test_hours_that_hold_no_delivery_leave_the_study_as_it_is(fresh: Path, capsys) -> None:
    options = Options(results=str(fresh.parent), local=True, mlflow="off", images=False, ends_at=1.0, aside=1e-9)
    ended = conduct(dataclasses.replace(ledger_at(fresh).study(), deliver=True), options, Interrupted())
    assert "1e-09 hours are not enough to deliver" in capsys.readouterr().err and "best model of digits" in ended.use[0]
    assert not (fresh / "delivered.json").exists()


# ---- plans, prices, bad input ------------------------------------------------------------------------------------


def test_a_dry_run_prints_what_would_be_trained_at_the_trials_own_pace(fresh: Path, capsys) -> None:
    before = sorted(p.name for p in fresh.rglob("*"))
    assert deliver.main([str(fresh), "--dry-run"]) == 0
    said, ledger = capsys.readouterr().out, ledger_at(fresh)
    assert sorted(p.name for p in fresh.rglob("*")) == before
    (order,), _ = ordered(ledger, tables_of(fresh))
    tuned = TrialConfig.from_dict(ledger.winners()[order.first.cell].config).as_dict()["strategy"]
    own = [ledger.result(a.trial_id) for a in ledger.asks() if a.cell == order.first.cell and a.config["strategy"] == tuned]
    pace = float(np.median([r.seconds / r.epochs for r in own]))
    assert order.first.epoch_seconds(ledger) == pytest.approx(pace) and order.lengths == (2, 6, 20)
    assert order.seconds == pytest.approx(pace * (2 * 6 + 2 * 20 + 20 * order.share)) and order.images == 468
    assert "2 epochs: 2 of the study's own runs" in said and "6 epochs: 2 to train, about" in said
    assert "once more on 468 training and validation images" in said
    hours = pace * (2 * 6 + 6 * order.share + 0.1) / 3600
    (less,), _ = ordered(ledger, tables_of(fresh), hours=hours)
    assert less.lengths == (2, 6) and any("not within the hours: 20 epochs" in line for line in plan_lines([less], ledger))


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("", ["--hours", "1e-9"], "1e-09 hours are not enough to deliver: digits needs"),
        ("", ["--hours", "0"], "--hours must be finite and > 0"),
        ("", ["--hours", "nan"], "--hours must be finite and > 0"),
        (":fulll", [], "'fulll' names 0 cells"),
        ("/trials", [], "holds no study"),
    ],
)
def test_what_cannot_be_delivered_is_one_line(place: str, options: list[str], said: str, fresh: Path, capsys) -> None:
    assert deliver.main([f"{fresh}{place}", *options]) == 2
    told = capsys.readouterr().err.splitlines()
    assert said in told[-1] and told[-1].startswith("error: ") and not (fresh / "delivered.json").exists()


def test_an_unfinished_study_is_sent_back(fresh: Path, capsys) -> None:
    path = fresh / "study.json"
    values = json.loads(path.read_text())
    del values["facts"]["finished_at"]
    path.write_text(json.dumps(values))
    assert deliver.main([str(fresh)]) == 2
    assert f"is not finished. Run python -m study.sweep {fresh} to its end" in capsys.readouterr().err


def test_images_that_are_gone_or_others_are_refused(tmp_path: Path, capsys) -> None:
    scans, root = load_digits(), tmp_path / "pictures"
    for k in range(120):
        (root / str(scans.target[k] % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((scans.images[k] * 15.9).astype(np.uint8)).save(root / str(scans.target[k] % 2) / f"{k:03}.png")
    line = [str(tiny.write(tmp_path, strategies=("linear_probe",), trials=1, seeds=1)), "--datasets", f"folder:{root}"]
    assert sweep.main([*line, "--local", "--mlflow", "off", "--results", str(tmp_path / "results")]) == 0
    place = tmp_path / "results" / "tiny"
    one = next(root.rglob("*.png"))
    data = one.read_bytes()
    one.unlink()
    assert deliver.main([str(place)]) == 3 and "are not those" in capsys.readouterr().err
    one.write_bytes(data)
    shutil.move(root, tmp_path / "moved")
    assert deliver.main([str(place)]) in (2, 3) and "pictures" in capsys.readouterr().err
    assert not (place / "delivered.json").exists()


def test_a_network_whose_weights_are_gone_is_refused_before_anything_is_trained(fresh: Path, monkeypatch, capsys) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConfigError("no weights of efficientnet_lite0 are here; give --weights.")

    monkeypatch.setattr("study.conduct.checks.create", gone)
    before = ledger_at(fresh).trial_ids()
    assert deliver.main([str(fresh)]) == 2 and "no weights" in capsys.readouterr().err
    assert ledger_at(fresh).trial_ids() == before and len(ledger_at(fresh).test_openings()) == 1


def test_a_longer_run_that_diverged_is_not_taken_and_a_last_one_that_failed_says_why(fresh: Path, monkeypatch, capsys) -> None:
    def broken(config: TrialConfig, *args, **more) -> Ending:
        if config.train_on == "train+val":
            raise RuntimeError("a strange thing")
        return Ending(outcome=Outcome.DIVERGED, reason="loss is not finite")

    with monkeypatch.context() as patch:
        patch.setattr(local, "run_trial", broken)
        assert deliver.main([str(fresh)]) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be delivered: failed: RuntimeError: a strange thing. Look at the reason, remove " in said
    assert not (fresh / "delivered.json").exists() and load_study(fresh).pick().delivered is None
    (lost,) = (a.trial_id for a in ledger_at(fresh).asks(Stage.DELIVER) if a.config.get("train_on"))
    assert f"trials/{lost}" in said
    shutil.rmtree(fresh / "trials" / lost)
    assert deliver.main([str(fresh)]) == 0
    entry = entry_of(fresh)
    assert entry["trial"] == lost and entry["epochs"] == 2 and [n["epochs"] for n in entry["lengths"]] == [2]


def test_a_damaged_record_is_named_with_the_way_out(delivered: Path, tmp_path: Path) -> None:
    place = shutil.copytree(delivered, tmp_path / "tiny")
    path, values = place / "delivered.json", json.loads((place / "delivered.json").read_text())
    for name, bad in (("trial", "../../etc"), ("temperature", 0), ("epochs", -1), ("lengths", 3), ("cell", None)):
        changed = json.loads(json.dumps(values))
        changed["delivered"]["digits@official"][name] = bad
        path.write_text(json.dumps(changed))
        with pytest.raises(EnvironmentProblem, match=r"delivered\.json is damaged .*restore it from a backup, or move it away and lose"):
            load_study(place)
    path.write_text(json.dumps(values))
    shutil.rmtree(place / "trials" / values["delivered"]["digits@official"]["trial"])
    found = load_study(place)
    assert found.pick().delivered is None and any("which was delivered, is gone" in w for w in found.warnings)


# ---- who competes --------------------------------------------------------------------------------------------------


def test_what_is_solved_exactly_competes_by_one_run(finished: Path) -> None:
    ledger, found = ledger_at(finished), load_study(finished)
    study, pick = found.study, found.pick("partial")
    own, rival = candidates(study, ledger, pick)
    assert (own.name, rival.name) == ("partial", "features") and rival.lengths == (1,) and own.lengths == (2, 6, 20)
    assert rival.runs == 1 and rival.to_train(ledger, 1) == [] and len(rival.known(ledger, 1)) == 2
    assert rival.refitted(1).train_on == "train+val" and rival.cell.endswith("/features/0.1")
    strengths = {ledger.result(a.trial_id).facts["strength"] for a in rival.known(ledger, 1)}
    assert rival.refitted(1).strategy.strength in strengths, "validation chose it, and none is left to choose again"
    assert len(candidates(study, ledger, pick, alone=True)) == 1, "who names a strategy gets it"


def test_the_line_to_beat_is_delivered_where_it_is_taken(fresh: Path) -> None:
    """It is part of no study's cells, and its network is checked and solved again like any other."""
    assert deliver.main([f"{fresh}:features"]) == 0
    ledger, entry = ledger_at(fresh), entry_of(fresh)
    assert (entry["strategy"], entry["epochs"], [n["epochs"] for n in entry["lengths"]]) == ("features", 1, [1])
    assert re.search(r"<dd>strength [\d.e-]+; seed", (fresh / "report.html").read_text())
    (ask,) = ledger.asks(Stage.DELIVER)
    assert ask.trial_id == entry["trial"] and ask.config["train_on"] == "train+val" and entry["images"] == 468
    assert load_study(fresh).pick().trial == entry["trial"]


def test_longer_is_longer_whatever_the_protocol_counts_in() -> None:
    base = TrialConfig.default(CELL, dataclasses.replace(SMALL, min_steps=50))
    own = Candidate(cell=CELL.id, base=base, reason="", seed=0)
    for images in (64, 100, 700):
        short, long = (own.trained(e, 0).protocol.steps(images) for e in (2, 20))
        assert long >= 9 * short
    assert own.trained(6, 0).protocol.views == 6, "one view for each epoch stays one for each"
    fixed = dataclasses.replace(own, base=dataclasses.replace(base, protocol=dataclasses.replace(SMALL, views=1)))
    assert fixed.trained(6, 0).protocol.views == 1
    assert own.trained(6, 0).seed != own.trained(6, 1).seed and own.trained(6, 0).seed == own.trained(20, 0).seed
    assert own.trained(6, 1).subset == 2 and own.refitted(6).subset == 0
