"""The ledger and its mirror: nothing doubled, nothing lost, the same tables from both."""

import dataclasses
import http.server
import io
import itertools
import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

from analysis.figures import FIGURES
from analysis.load import load
from analysis.report import all_tables
from analysis.verdict import findings
from study.conduct.lines import line_cells
from study.conduct.pipeline import report
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.tracking.client import KEY
from study.tracking.explain import explain
from study.tracking.inputs import inputs
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from study.tracking.names import cell_names, class_names, names_by_cell
from tests.goldens import GOLDEN


@pytest.fixture
def few(copy: Ledger) -> Ledger:
    """Return two chosen trials and one confirm run of each: enough for a server's side of things, in seconds."""
    keep = {*copy.selection()["chosen"].values(), *(a.trial_id for a in copy.asks("confirm") if a.number == 0)}
    for name in copy.folder.names("trials"):
        if name not in keep:
            copy.trial_folder(name).remove("")
    return copy


def root_of(mirror: Mirror):
    runs = mirror.runs.client.search_runs([mirror.runs.experiment], max_results=100)
    return next(r for r in runs if r.data.tags[KEY] == "golden:"), [r for r in runs if "trial" in r.data.tags], runs


def count(db: Path, sql: str) -> int:
    with sqlite3.connect(db) as connection:
        return int(connection.execute(sql).fetchone()[0])


def test_T7_replaying_doubles_nothing_and_analysis_is_the_same_from_both(copy: Ledger, tmp_path: Path) -> None:
    """From the ledger or from the server alone, the tables are the same to the byte. This is a law."""
    report = Mirror(copy).sync()
    assert report.pending == 0 and report.problem is None
    db = Path(copy.folder.root).parent / "mlflow.db"
    trials, epochs = len(copy.asks()), sum(len(copy.epochs(a.trial_id)) for a in copy.asks())
    assert count(db, "select count(*) from runs") == 1 + 2 + trials
    rows = count(db, "select count(*) from metrics where key = 'val/macro_f1'")
    assert rows == epochs
    copy.folder.remove("mlflow.json")  # the cursor is lost: everything is found by tag
    assert Mirror(copy).sync().pending == 0
    assert count(db, "select count(*) from runs") == 1 + 2 + trials
    assert count(db, "select count(*) from metrics where key = 'val/macro_f1'") == rows
    assert Mirror(copy).sync().sent == 0

    frames = [load(str(GOLDEN)), load(f"sqlite:///{db}#golden", cache=tmp_path / "back")]
    for a, b in zip(*(tables(f) for f in frames), strict=True):
        assert a == b


def tables(frames):
    from analysis.page.write import csv_bytes

    found = findings(frames, resamples=50)
    return [(k, csv_bytes(v)) for k, v in all_tables(frames, found, {s.name: s.compute(frames, found) for s in FIGURES}).items()]


def test_a_measurements_summary_stands_on_its_run(few: Ledger) -> None:
    """This holds also where the run had ended. What is no number of ours stays away, and a damaged file harms nothing."""
    assert Mirror(few).sync().pending == 0
    one, other = few.asks("confirm")[:2]
    buffer = io.BytesIO()
    summary = json.dumps({"agreement": 0.25, "kl": float("nan"), "../odd": 1.0})
    pq.write_table(pa.table({"kind": ["as it is"]}).replace_schema_metadata({"summary": summary}), buffer)
    few.folder.write(f"trials/{one.trial_id}/measured/forgetting.parquet", buffer.getvalue())
    few.folder.write(f"trials/{other.trial_id}/measured/forgetting.parquet", b"PAR1 damaged")
    for _ in range(2):
        assert Mirror(few).sync().problem is None
    runs = {r.data.tags.get("trial"): r for r in root_of(Mirror(few))[1]}
    assert runs[one.trial_id].data.metrics["forgetting/agreement"] == 0.25
    assert not [k for r in runs.values() for k in r.data.metrics if "odd" in k or k == "forgetting/kl"]
    db = Path(few.folder.root).parent / "mlflow.db"
    assert count(db, "select count(*) from metrics where key = 'forgetting/agreement'") == 1


def test_a_finished_study_that_grows_is_sent_on_and_read_back(few: Ledger, tmp_path: Path) -> None:
    few.add_facts(verdicts=["first", "second"])
    few.folder.write("tables/a.csv", b"1")
    assert Mirror(few).sync().pending == 0
    root, trials, _ = root_of(Mirror(few))
    assert root.info.status == "FINISHED" and root.data.tags["verdict.2"] == "second" and len(trials) == 4

    few.begin(dataclasses.replace(few.study(), confirm_seeds=4), {})
    late = Ledger(GOLDEN, "golden").asks("confirm")[-1].trial_id  # a confirm run that comes with the growth
    shutil.copytree(GOLDEN / "golden" / "trials" / late, few.trial_folder(late).root)
    earlier = few.asks("confirm")[0].trial_id
    few.folder.write(f"trials/{earlier}/measured/layer_change.parquet", b"made after its trial had ended")
    assert Mirror(few).pending() > 0 and Mirror(few).sync().pending == 0
    root, trials, runs = root_of(Mirror(few))
    assert root.info.status == "RUNNING" and "confirm_seeds: 3 -> 4 (the test set was open)" in root.data.tags["amendment.1"]
    assert {r.info.status for r in trials} == {"FINISHED"} and len(trials) == 5

    few.add_facts(finished_at=2e9, verdicts=["only"])
    few.folder.write("tables/a.csv", b"2")
    assert Mirror(few).pending() > 0 and Mirror(few).sync().pending == 0
    assert Mirror(few).sync().sent == 0
    root, trials, runs = root_of(Mirror(few))
    assert {r.info.status for r in runs} == {"FINISHED"} and len(runs) == 1 + 2 + 5 and root.info.end_time == 2e12
    assert [v for k, v in sorted(root.data.tags.items()) if k.startswith("verdict.")] == ["only"]
    db = Path(few.folder.root).parent / "mlflow.db"
    epochs = sum(len(few.epochs(a.trial_id)) for a in few.asks())
    assert count(db, "select count(*) from metrics where key = 'val/macro_f1'") == epochs

    back = load(f"sqlite:///{db}#golden", cache=tmp_path / "back")
    for a, b in zip(tables(load(few)), tables(back), strict=True):
        assert a == b
    assert back.ledger.measured(earlier, "layer_change") == b"made after its trial had ended"
    assert "- only" in root.data.tags["mlflow.note.content"] and "seeds: 3 -> 4" in root.data.tags["mlflow.note.content"].replace("\\", "")
    assert back.ledger.amendments() == few.amendments() and back.study == few.study()


def test_a_trial_called_killed_goes_on_when_its_study_grows(few: Ledger) -> None:
    late = few.asks("confirm")[0].trial_id
    result = few.folder.read(f"trials/{late}/result.json")
    few.folder.remove(f"trials/{late}/result.json")
    assert Mirror(few).sync().pending == 0
    assert next(r for r in root_of(Mirror(few))[1] if r.data.tags["trial"] == late).info.status == "KILLED"
    few.folder.write(f"trials/{late}/result.json", result)
    assert Mirror(few).sync().pending == 0
    assert next(r for r in root_of(Mirror(few))[1] if r.data.tags["trial"] == late).info.status == "FINISHED"


def test_runs_are_nested_study_cell_trial(few: Ledger) -> None:
    mirror = Mirror(few)
    mirror.sync()
    runs = {r.info.run_id: r for r in mirror.runs.client.search_runs([mirror.runs.experiment], max_results=100)}
    depth = {}
    for run_id, run in runs.items():
        parents, at = 0, run
        while parent := at.data.tags.get("mlflow.parentRunId"):
            at, parents = runs[parent], parents + 1
        depth[run_id] = parents
    assert sorted(depth.values()) == [0, 1, 1] + [2] * len(few.asks())
    trial = next(r for r in runs.values() if "trial" in r.data.tags)
    assert {"strategy", "dataset", "backbone", "seed", "commit", "device", "version.torch"} <= set(trial.data.tags)
    assert {"lr", "weight_decay"} <= set(trial.data.params) and len(trial.data.params) < 10, "what is searched, no protocol"
    assert not [k for k in trial.data.metrics if k.endswith("_c000")] and "val_f1/7" in trial.data.metrics
    assert trial.data.metrics["Macro-F1/validation"] == trial.data.metrics["val/macro_f1"]
    names = [r.info.run_name for r in runs.values()]
    assert len(set(names)) == len(names) and {"golden", "partial", "partial confirm #0"} <= set(names)
    root = next(r for r in runs.values() if r.info.run_name == "golden")
    note = root.data.tags["mlflow.note.content"]
    assert root.data.tags["protocol.max_epochs"] == "3"
    assert note.startswith("Digits at 32 px") and "partial beats linear\\_probe: +12.9 points" in note
    experiment = mirror.runs.client.get_experiment(mirror.runs.experiment)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.note.content"] == note
    assert "metrics.`Macro-F1/test`" in json.loads(experiment.tags["mlflow.sharedViewState.study"])["selectedColumns"]


def test_test_scores_with_intervals_stand_on_confirm_cell_and_study_runs(few: Ledger, tmp_path: Path) -> None:
    """This holds also where an earlier version had sent the study to its end: its next sync brings them, and a second doubles nothing."""
    assert Mirror(few).sync().pending == 0 and Mirror(few).sync().sent == 0
    written = report(few)
    assert Mirror(few).pending() > 0 and Mirror(few).sync().problem is None and Mirror(few).sync().sent == 0
    root, trials, runs = root_of(Mirror(few))
    by_key = {r.data.tags[KEY].partition(":")[2]: r for r in runs}
    confirmed = [r for r in trials if r.data.tags["stage"] == "confirm"]
    assert len(confirmed) == 2
    for run in confirmed:
        said = load(few).predictions(run.data.tags["trial"])["test"]
        own = run.data.metrics
        assert own["test/macro_f1"] == pytest.approx(f1_score(said.labels, said.logits.argmax(axis=1), average="macro"))
        assert own["Macro-F1/test_low"] < own["Macro-F1/test"] == own["test/macro_f1"] < own["Macro-F1/test_high"]
        assert own["test/accuracy_low"] < own["test/accuracy"] < own["test/accuracy_high"]
        cell = next(r for k, r in by_key.items() if r.info.run_id == run.data.tags["mlflow.parentRunId"])
        assert cell.data.metrics["Macro-F1/test"] == pytest.approx(own["Macro-F1/test"]), "the mean of one run"
        assert "Macro-F1/test_low" not in cell.data.metrics and "no interval" in cell.data.tags["mlflow.note.content"]
    (pick,) = (r for r in confirmed if r.data.tags["trial"] == written.picks[0]["trial"])
    assert root.data.metrics["Macro-F1/test"] == pick.data.metrics["test/macro_f1"], "the pick's"
    for page in ("answer.html", "report.html"):
        link = f"(#/experiments/{root.info.experiment_id}/runs/{root.info.run_id}/artifacts/{page}?workflowType=machine_learning)"
        assert link in root.data.tags["mlflow.note.content"]
    db = Path(few.folder.root).parent / "mlflow.db"
    assert count(db, "select count(*) from metrics where key = 'Macro-F1/test'") == 2 + 2 + 1

    few.add_facts(scores={"trials": {}, "cells": {few.asks()[0].cell: {"macro_f1": {"mean": 0.5, "low": 0.25, "high": 0.75}}}})
    assert Mirror(few).sync().problem is None
    cell = next(r for r in root_of(Mirror(few))[2] if r.data.tags[KEY] == f"golden:{few.asks()[0].cell}")
    assert (cell.data.metrics["Macro-F1/test_low"], cell.data.metrics["Macro-F1/test_high"]) == (0.25, 0.75)
    assert "50.0, 95 % interval 25.0 to 75.0" in cell.data.tags["mlflow.note.content"]


def test_data_sets_are_logged_as_inputs_by_their_content(few: Ledger) -> None:
    from study.tracking.inputs import inputs

    for _ in range(2):
        assert Mirror(few).sync().problem is None
    root, trials, _ = root_of(Mirror(few))
    search = next(r for r in trials if r.data.tags["stage"] == "search")
    contexts = {r.info.run_id: [i.tags[0].value for i in r.inputs.dataset_inputs] for r in (root, *trials)}
    assert contexts[root.info.run_id] == ["training", "validation", "test"] and contexts[search.info.run_id] == ["training", "validation"]
    assert {len(contexts[r.info.run_id]) for r in trials if r.data.tags["stage"] == "confirm"} == {3}
    known = search.inputs.dataset_inputs[0].dataset
    profile = json.loads(known.profile)
    assert known.name == "digits" and profile["images"] == 1077 and profile["images_by_class"]["9"] == 108

    cell, found = few.study().cells[0], few.data_report()
    digests = [i.dataset.digest for i in inputs(cell, found)]
    other = {"digits@official": found["digits@official"] | {"fingerprint": "other pixels"}}
    assert len({*digests, *(i.dataset.digest for i in inputs(cell, other))}) == 6
    assert inputs(cell, {}) == []


def test_class_names_are_made_fit_for_a_server_and_stay_apart() -> None:
    from mlflow.utils.validation import _validate_metric_name

    classes = ["happy", "Happy", "cat/dog", "cat dog", "..", "", "señal", "senal", "x" * 300, "a: b?", "表情", "sad."]
    names = class_names(classes)
    assert names[0] == "happy c000" and names[1] == "Happy c001" and names[9] == "a b" and names[10] == "表情" and names[4] == "c004"
    assert len({n.casefold() for n in names}) == len(classes)
    for name in names:
        _validate_metric_name(f"val_f1/{name}")
    assert class_names(["angry", "very sad"]) == ["angry", "very sad"]


def test_the_search_opens_in_optuna(copy: Ledger, tmp_path: Path, capsys) -> None:
    import optuna

    from study.tracking.__main__ import main

    url = f"sqlite:///{tmp_path}/x.db"
    unfinished = next(a for a in copy.asks("search") if a.number == 5)
    copy.folder.remove(f"trials/{unfinished.trial_id}/result.json")
    for _ in range(2):  # a second one replaces the first
        assert main(["export", copy.folder.root, "--optuna", url]) == 0
    assert optuna.get_all_study_names(url) == ["golden: linear_probe", "golden: partial"]
    states = []
    for name, cell in zip(optuna.get_all_study_names(url), copy.study().cells, strict=True):
        trials = optuna.load_study(study_name=name, storage=url).trials
        asks = [a for a in copy.asks("search") if a.cell == cell.id]
        assert [t.user_attrs["trial"] for t in trials] == [a.trial_id for a in asks] and len(trials) == 6
        for trial, ask in zip(trials, asks, strict=True):
            states.append(trial.state.name)
            assert set(trial.distributions) == set(copy.study().ranges(cell)) and trial.params["lr"] == ask.config["strategy"]["lr"]
            assert trial.intermediate_values == {e.epoch: e.objective for e in copy.epochs(ask.trial_id)}
            if trial.state.name == "COMPLETE":
                result = copy.result(ask.trial_id)
                assert trial.value == result.metrics["val/macro_f1"] and trial.datetime_complete.timestamp() == pytest.approx(
                    result.ended_at
                )
    assert states.count("RUNNING") == 1 and states.count("COMPLETE") >= 8

    optuna.delete_study(study_name="golden: partial", storage=url)
    optuna.create_study(study_name="golden: partial", storage=url)
    assert main(["export", copy.folder.root, "--optuna", url]) == ConfigError.exit_code
    assert main(["export", copy.folder.root, "--optuna", "sqlite:////no/such/folder/x.db"]) == EnvironmentProblem.exit_code
    taken, refused = capsys.readouterr().err.strip().splitlines()
    assert "was not written here" in taken and "/no/such/folder/x.db does not take the search" in refused


def test_runs_have_names_that_people_can_tell_apart() -> None:
    cells = grid(["fer2013", "folder:/data/my_birds", "deepweeds@session"], ["resnet18", "resnet50"], ["full"], (0.1, 1.0))
    names = cell_names(cells)
    assert len(set(names.values())) == len(cells) == 12
    assert names[cells[0]] == "fer2013@official resnet18 0.1 of the images"
    assert list(cell_names(grid(["mini_faces"], ["resnet18"], ["partial"])).values()) == ["mini_faces partial"]
    assert list(cell_names(grid(["mini_faces"], ["resnet18"], ["partial", "full"])).values()) == ["partial", "full"]
    assert list(cell_names(grid(["folder:/a/birds", "table:/b/birds.csv?label=x"], ["resnet18"], ["full"])).values()) == [
        "birds",
        "birds.csv",
    ]
    assert list(cell_names(grid(["folder:/a/birds", "folder:/b/birds"], ["resnet18"], ["full"])).values()) == [
        "folder:/a/birds",
        "folder:/b/birds",
    ]


ASKED = [
    grid(["mini_faces"], ["resnet18"], ["partial", "full"]),
    grid(["mini_faces", "mini_weeds"], ["resnet18"], ["partial"], (0.1, 1.0)),
    grid(["digits"], ["resnet18", "resnet50"], ["full"], (1.0,), (1, 3), (64, 300)),
]


@pytest.mark.parametrize("cells", ASKED)
def test_the_lines_to_beat_are_named_as_the_cells_beside_them(cells: list[Cell]) -> None:
    study = Study(name="s", cells=cells, protocol=Protocol(max_epochs=3, image_size=64))
    names = names_by_cell(cells)
    lines = [names[cell.id] for cell in line_cells(study)]
    assert len(set(lines)) == len(lines) > 0 and not any("/" in name for name in lines)
    assert {cell.id: name for cell, name in cell_names(cells).items()}.items() <= names.items()


FOLDS = ["official", *(f"official:{fold}" for fold in range(5))]
OWN = ["digits", "folder:/a/b@c", "table:/a/labels.csv?label=x"]


@pytest.mark.parametrize(("dataset", "splits"), [*itertools.product(OWN, FOLDS), ("mini_weeds", "session:2")])
def test_every_fold_says_what_it_was_trained_and_measured_on(dataset: str, splits: str) -> None:
    """The data are audited once for all folds, and what is said of one fold's numbers is not said of another's."""
    counts = {"train": [6, 4], "val": [2, 2], "test": [2, 1]}
    found = {f"{dataset}@{splits.partition(':')[0]}": {"counts": counts, "classes": ["a", "b"], "fingerprint": "f", "form": "ten images"}}
    cell = Cell(dataset=dataset, splits=splits, backbone="resnet18", strategy="full")
    own = inputs(cell, found)
    assert [i.tags[0].value for i in own] == ["training", "validation", "test"]
    digests = {i.dataset.digest for i in own}
    assert len(digests) == 3 and not digests & {i.dataset.digest for i in inputs(dataclasses.replace(cell, splits="official:7"), found)}
    first = splits in ("official", "official:0")
    assert [json.loads(i.dataset.profile).get("images") for i in own] == ([10, 4, 3] if first else [None] * 3)
    assert inputs(cell, {}) == inputs(dataclasses.replace(cell, dataset="other"), found) == []


def test_T2_server_down_costs_nothing_and_is_delivered_later(few: Ledger) -> None:
    down = Mirror(few, "http://127.0.0.1:9").sync()
    assert down.pending > 0 and down.problem and "\n" not in down.problem
    assert Mirror(few).sync().pending == 0


@pytest.mark.parametrize(("status", "words"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "--allowed-hosts"), (500, "127.0.0.1")])
def test_T3_refusals_are_named_with_the_way_out(status: int, words: str, copy: Ledger) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = Mirror(copy, f"http://127.0.0.1:{server.server_port}").sync()
        server.shutdown()
    assert report.pending > 0 and words in (report.problem or "")


def test_X11_passwords_never_reach_a_line() -> None:
    line = explain(RuntimeError("cannot connect to postgresql://user:hunter2@host/db"), "postgresql://user:hunter2@host/db")
    assert "hunter2" not in line and "user" in line


def test_T9_a_study_of_another_schema_or_a_damaged_one_is_named(copy: Ledger) -> None:
    path = Path(copy.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["schema"] = 99
    path.write_text(json.dumps(values))
    with pytest.raises(Exception, match="schema 99"):
        load(copy)
    path.write_text("{")
    with pytest.raises(EnvironmentProblem, match="damaged"):
        load(copy)
