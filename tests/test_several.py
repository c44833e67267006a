"""Several labels a picture, or none: read from both forms of tables, split by the rarest first, copies and groups whole."""

import csv
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torchvision.ops import sigmoid_focal_loss

from analysis.findings.sets import known_sets, prediction_sets
from analysis.report import write_report
from study import Protocol, Results, Study, export, grid, predict, run_study
from study.datasets import open_dataset, subsample
from study.datasets.audit import audit
from study.datasets.spec import stratified_parts
from study.datasets.stratify import iterative_parts
from study.errors import ConfigError, DataError
from study.inference import outside
from study.inference.classifier import Classifier
from study.label.draw import question_to_decide
from study.question.cell import Cell
from study.question.training_settings import Recipe
from study.question.trial_config import TrialConfig
from study.records import EpochRecord
from study.run import open_inputs, run_trial
from study.scoring.labels import best_thresholds, label_figures, named_labels
from study.screen import __main__ as screen
from study.storage.places import Places
from study.strategies import EVERY
from study.tracking import model as registered
from study.training.loop import fine_tune
from study.training.losses import LOSSES, OF_LABELS
from study.use import formats
from study.use.predictor import Predictor

LABELS = ("blue", "green", "red")


def pictures(root: Path, images: int = 60, seed: int = 0, wrong: float = 0.0) -> list[list[str]]:
    """Write grey noise with a square of each colour that is among its labels, each at its own place, and return the labels by image.

    A share `wrong` of them is wrong.
    """
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    found = []
    for k in range(images):
        image = rng.integers(90, 160, (32, 32, 3), dtype=np.uint8)
        own = [label for label in range(3) if rng.random() < (0.5, 0.4, 0.25)[label]]
        for label in own:
            image[16 * (label // 2) : 16 * (label // 2) + 16, 16 * (label % 2) : 16 * (label % 2) + 16] = 30
            image[16 * (label // 2) : 16 * (label // 2) + 16, 16 * (label % 2) : 16 * (label % 2) + 16, 2 - label] = 250
        Image.fromarray(image).save(root / "images" / f"{k:03d}.png")
        found.append([LABELS[label] for label in range(3) if (label in own) != (rng.random() < wrong)])
    return found


def as_list(root: Path, labels: Sequence[Sequence[str]], by: str = "|") -> str:
    """Write a table with a column of labels."""
    lines = ["file,tags", *(f'{k:03d}.png,"{by.join(own)}"' for k, own in enumerate(labels))]
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return f"table:{root / 'list.csv'}?labels=tags"


def as_columns(root: Path, labels: Sequence[Sequence[str]]) -> str:
    """Write a table with a column of 0 and 1 for each label."""
    lines = ["file,blue,green,red", *(f"{k:03d}.png," + ",".join(str(int(c in own)) for c in LABELS) for k, own in enumerate(labels))]
    (root / "columns.csv").write_text("\n".join(lines) + "\n")
    return f"table:{root / 'columns.csv'}?labels=blue,green,red"


def test_a_screening_names_a_way_that_is_open_to_several_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It once advised to name a network with --backbones, which was refused with the same advice."""
    name = as_list(tmp_path, pictures(tmp_path))
    assert screen.main(["--datasets", name, "--backbones", "efficientnet_lite0"]) == DataError.exit_code
    said = capsys.readouterr().err
    assert f"python -m study.sweep mine --datasets {shlex.quote(name)} --backbones NETWORK" in said


def test_both_forms_of_a_table_hold_the_same(tmp_path: Path) -> None:
    labels = pictures(tmp_path)
    columns = open_dataset(as_columns(tmp_path, labels))
    for by in "|;,":
        table = open_dataset(as_list(tmp_path, labels, by))
        assert table.several and table.classes == LABELS == columns.classes
        assert (table.labels == columns.labels).all() and (table.split == columns.split).all()
    none = sum(not own for own in labels)
    assert none and f"{none} images without any" in table.form and "60 images of 3 labels" in table.form
    assert [table.called(k).split(" + ") if table.labels[k].any() else [] for k in range(60)] == labels
    assert table.counts()["train"] == table.labels[table.split == 0].sum(axis=0).tolist()
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"file": f"{k:03d}.png", "tags": own}) + "\n" for k, own in enumerate(labels)))
    assert (open_dataset(f"table:{tmp_path / 'list.jsonl'}?labels=tags").labels == table.labels).all()


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(30, 120), st.integers(2, 6), st.booleans())
def test_folds_hold_each_label_in_proportion_and_groups_whole(seed: int, images: int, labels: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    own = rng.random((images, labels)) < rng.uniform(0.1, 0.6, labels)
    groups = rng.integers(0, max(images // 2, 5), images) if grouped else None
    parts = iterative_parts(own, groups, 5, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(images))
    counts = np.stack([own[p].sum(axis=0) for p in parts])
    largest = 1 if groups is None else np.unique(groups, return_counts=True)[1].max()
    assert (np.abs(counts - own.sum(axis=0) / 5) <= (2 + labels) * largest).all()
    if groups is not None:
        assert all(len({k for k, p in enumerate(parts) if (groups[p] == g).any()}) == 1 for g in np.unique(groups))


def test_the_rarest_label_is_dealt_out_evenly() -> None:
    rng = np.random.default_rng(0)
    own = rng.random((100, 4)) < 0.5
    own[:, 3] = np.arange(100) < 5
    assert [int(own[p][:, 3].sum()) for p in stratified_parts(own, None, what="x")] == [1] * 5


def test_a_fraction_keeps_a_part_that_is_nested(tmp_path: Path) -> None:
    table = open_dataset(as_list(tmp_path, pictures(tmp_path)))
    train = int((table.split == 0).sum())
    half, more = (np.flatnonzero(subsample(table, f).split == 0) for f in (0.5, 0.75))
    assert len(half) == round(0.5 * train) and set(half) < set(more)


def test_the_doctor_counts_labels_and_names_copies_with_others(tmp_path: Path) -> None:
    labels = pictures(tmp_path)
    other = next(k for k in range(1, 60) if labels[k] != labels[0])
    (tmp_path / "images" / f"{other:03d}.png").write_bytes((tmp_path / "images" / "000.png").read_bytes())
    table = open_dataset(as_list(tmp_path, labels))
    report = audit(table)
    assert report.conflicts == 1 and report.split_images["train"] == (table.split == 0).sum()
    assert table.split[0] == table.split[other], "copies lie on one side"


@pytest.mark.parametrize(("header", "row", "asked", "why"), [
    ("file,tags", "{k}.png,a|b", "labels=tag", "no column 'tag'"),
    ("file,tags,label", "{k}.png,a|b,a", "labels=tags&label=label", "Leave one of them out"),
    ("file,a,b", "{k}.png,1,yes", "labels=a,b", "b is 'yes', and of several columns"),
    ("file,a,b", "{k}.png,1,0", "labels=a", "the column a holds 0 and 1"),
    ("file,tags", "{k}.png,a", "labels=tags", "holds 1 label \\(a\\)"),
    ("file,a,b", "{k}.png,1,0", "labels=a,b", "holds 1 label"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(header: str, row: str, asked: str, why: str, tmp_path: Path) -> None:
    pictures(tmp_path, 30)
    (tmp_path / "t.csv").write_text("\n".join([header, *(row.format(k=f"{k:03d}") for k in range(30))]))
    with pytest.raises((ConfigError, DataError), match=why) as error:
        open_dataset(f"table:{tmp_path / 't.csv'}?{asked}")
    assert len(str(error.value).splitlines()) == 1


def test_two_separators_in_one_column_are_refused_with_both_rows(tmp_path: Path) -> None:
    pictures(tmp_path, 30)
    rows = [f"{k:03d}.png,{'a|b' if k % 2 else 'a;c'}" for k in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["file,tags", *rows]))
    with pytest.raises(DataError, match=r"joins labels by \| at .*csv:3 and by ; at .*csv:2. Use one"):
        open_dataset(f"table:{tmp_path / 't.csv'}?labels=tags")


def config(name: str, strategy: str = "partial", **protocol: object) -> TrialConfig:
    cell = Cell(dataset=name, backbone="efficientnet_lite0", strategy=strategy)
    more = {"max_epochs": 2, "image_size": 32, "batch_size": 16, "warmup_epochs": 0.5} | protocol
    return TrialConfig(cell=cell, strategy=EVERY[strategy](), recipe=Recipe(), protocol=Protocol(**more))


def test_the_line_to_beat_solves_each_label_and_the_network_says_several(tmp_path: Path) -> None:
    labels = pictures(tmp_path, 100)
    asked = config(as_list(tmp_path, labels), "features", max_epochs=1)
    trial = tmp_path / "trial"
    records: list[EpochRecord] = []
    places = Places(folder=str(trial), cache=str(tmp_path / "cache"))
    run_trial(asked, places, lambda r: records.append(r) or False, measurements=("predictions", "calibration"))
    metrics = records[0].metrics
    assert metrics["val/macro_f1"] > 0.8 and records[0].confusion is None and "val/micro_f1" in metrics
    rows = pq.read_table(trial / "measured" / "predictions.parquet").to_pylist()
    val = [r for r in rows if r["split"] == "val"]
    logits, truth = np.array([r["logits"] for r in val]), np.array([r["labels"] for r in val])
    network = Predictor.from_folder(str(trial))
    assert network.kept.several and len(network.kept.thresholds) == 3
    said = named_labels(logits, np.array(network.kept.thresholds))
    assert f1_score(truth, said, average="macro") == pytest.approx(metrics["val/macro_f1"])
    assert b"one label" in pq.read_schema(trial / "measured" / "calibration.parquet").metadata[b"left_out"]

    # what is predicted of files: probabilities of each label for itself, and those above its threshold
    assert predict.main([str(trial), str(tmp_path / "images"), "--csv", str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 100 and list(found[0])[:3] == ["image", "labels", "p(blue)"]
    right = np.mean([set(filter(None, row["labels"].split("|"))) == set(own) for row, own in zip(found, labels, strict=True)])
    assert right > 0.6
    about = formats.describe(network, 1.0)
    assert about["several"] and "sigmoid" in about["steps"][-2]
    shares = outside.probabilities(network.logits(network.read(str(tmp_path / "images" / "000.png"))[None]), about)[0]
    assert np.allclose(shares, [float(found[0][f"p({c})"]) for c in LABELS], atol=1e-4)
    assert [c for c, p, t in zip(LABELS, shares, about["thresholds"], strict=True) if p > t] == list(
        filter(None, found[0]["labels"].split("|"))
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_what_is_trained_is_a_binary_loss_of_each_label(loss: str, tmp_path: Path) -> None:
    labels = pictures(tmp_path, 60)
    own = config(as_columns(tmp_path, labels), max_epochs=4)
    own = replace(own, recipe=Recipe(loss=loss, mixup=0.4, class_weighting=1.0, balanced_sampling=0.5))
    inputs = open_inputs(own, Places(folder="", cache=str(tmp_path / "cache")))
    assert inputs.targets(np.arange(4)).shape == (4, 3)
    first, *_, last = (r for r, _ in fine_tune(own, inputs))
    assert last.metrics["val/nll"] < first.metrics["val/nll"] and last.said is None
    with pytest.raises(ConfigError, match="wrong_labels is of images with one label"):
        open_inputs(config(as_columns(tmp_path, labels), wrong_labels=0.2), Places(folder="", cache=str(tmp_path / "cache")))


def test_the_losses_of_labels_are_torchs_and_torchvisions() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(5, 4, generator=rng), (torch.rand(5, 4, generator=rng) > 0.5).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    assert torch.allclose(OF_LABELS["cross_entropy"](logits, targets, None, None, 0.0), bce.sum())
    weights = torch.tensor([1.0, 0, 2, 1, 3])
    assert torch.allclose(OF_LABELS["cross_entropy"](logits, targets, weights, None, 0.0), (weights * bce).sum())
    focal = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2).mean(1).sum()
    assert torch.allclose(OF_LABELS["focal"](logits, targets, None, None, 0.0), focal)
    assert OF_LABELS.keys() == LOSSES.keys()


@settings(deadline=None)  # the first case waits for imports
@given(st.integers(0, 500), st.integers(2, 40), st.booleans())
def test_the_threshold_of_a_label_is_the_best_there_is(seed: int, images: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    logits, truth = rng.normal(size=(images, 2)), rng.random((images, 2)) < 0.4
    logits = logits.round(0) if tied else logits
    found = best_thresholds(logits, truth)
    for k in range(2):
        if not truth[:, k].any():
            assert found[k] == 0
            continue

        def score(above: float, k: int = k) -> float:
            said = logits[:, k] > above
            return 2 * (said & truth[:, k]).sum() / (said.sum() + truth[:, k].sum())

        assert score(found[k]) == pytest.approx(max(score(t) for t in logits[:, k] - 1e-6))


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    logits, truth = rng.normal(size=(50, 4)), rng.random((50, 4)) < 0.3
    figures, said = label_figures(logits, truth, np.zeros(4))
    assert (said == (logits > 0)).all()
    for average, key in (("macro", "macro_f1"), ("micro", "micro_f1")):
        assert figures[key] == pytest.approx(f1_score(truth, said, average=average))
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, said))
    p = 1 / (1 + np.exp(-logits))
    assert figures["nll"] == pytest.approx(np.mean([log_loss(truth[:, k], p[:, k], labels=[False, True]) for k in range(4)]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run a whole study of two strategies, with delivery."""
    root = tmp_path_factory.mktemp("several")
    study = Study(
        name="labels",
        cells=grid([as_list(root, pictures(root, 120, wrong=0.15))], ["efficientnet_lite0"], ["linear_probe", "partial"]),
        protocol=Protocol(max_epochs=2, image_size=32, batch_size=16, views=1, warmup_epochs=0.5),
        trials=1, random_trials=0, grace_epochs=1, confirm_seeds=2, line_size=32, budget_check=0, deliver=True,
        measure=("predictions", "calibration", "reprobe"),
    )  # fmt: skip
    return run_study(study, results=root / "results", local=True)


def test_the_verdict_is_of_macro_f1_over_labels(run: Results) -> None:
    scores = run.strategies[run.strategies.metric == "macro_f1"].set_index("strategy")
    assert set(run.strategies.metric) == {"macro_f1", "macro_precision", "macro_recall"}
    for strategy in ("features", "linear_probe", "partial"):
        own = run.trials[(run.trials.strategy == strategy) & (run.trials.stage == "confirm")]
        found = []
        for trial in own.trial_id:
            test, val = (run.frames.predictions(trial)[split] for split in ("test", "val"))
            found.append(f1_score(test.labels, test.logits > best_thresholds(val.logits, val.labels), average="macro", zero_division=0))
        assert scores.loc[strategy, "mean"] == pytest.approx(np.mean(found))
        assert scores.loc[strategy, "low"] < scores.loc[strategy, "mean"] < scores.loc[strategy, "high"]
    assert len(run.pairs) == 3 and len(run.verdicts) == 1


def test_the_page_has_a_table_of_labels_and_no_confusion(run: Results, tmp_path: Path) -> None:
    write_report(run.folder, tmp_path / "page.html", tables=str(tmp_path / "tables"))
    page = (tmp_path / "page.html").read_text()
    assert "Each label" in page and "Which classes are confused?</h3>" not in page
    with open(tmp_path / "tables" / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert {r["label"] for r in rows} == set(LABELS) and all(0 < float(r["threshold_low"]) < 1 for r in rows)
    assert [float(r["low"]) <= float(r["f1"]) <= float(r["high"]) for r in rows] == [True] * len(rows)
    assert "one label" in page, "what is left out is said"


def test_what_is_handed_over_has_thresholds_and_a_card_of_labels(run: Results, tmp_path: Path) -> None:
    pick = run.pick()
    assert pick.delivered is not None and len(pick.thresholds) == 3
    network = run.predictor()
    assert network.kept.several and network.kept.thresholds == list(pick.thresholds)
    card = run.model_card()
    assert "| label | F1 |" in card and "taken for" not in card
    assert run.predictor("partial", ensemble=True).kept.thresholds
    place = f"{run.folder}"
    assert export.main([place, "--format", "onnx", "--to", str(tmp_path / "out")]) == 0
    about = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert about["several"] and len(about["thresholds"]) == 3


def test_a_hugging_face_sequence_of_class_labels_holds_the_same(tmp_path: Path) -> None:
    import datasets

    labels = pictures(tmp_path)
    features = datasets.Features(
        {"image": datasets.Image(), "tags": datasets.Sequence(datasets.ClassLabel(names=["red", "blue", "green"]))}
    )
    files = [str(tmp_path / "images" / f"{k:03d}.png") for k in range(60)]
    named = [[["red", "blue", "green"].index(label) for label in own] for own in labels]
    datasets.Dataset.from_dict({"image": files, "tags": named}, features).save_to_disk(str(tmp_path / "hf"))
    table = open_dataset(f"hf:{tmp_path / 'hf'}?labels=tags&tiles=1x2")
    assert table.several and table.classes == ("red", "blue", "green") and table.tiles == (1, 2)
    ours = open_dataset(as_list(tmp_path, labels))
    order = [table.classes.index(c) for c in ours.classes]
    assert (table.labels[:, order] == ours.labels).all()
    with pytest.raises(ConfigError, match="no column 'tag'"):
        open_dataset(f"hf:{tmp_path / 'hf'}?labels=tag")


def test_the_answer_speaks_of_labels_and_a_registered_model_gives_the_probability_of_each(run: Results, tmp_path: Path) -> None:
    (answer,) = run.answers
    assert "Giving every image each label" in answer.text and "commonest class" not in answer.text
    trial = run.pick("partial").trial
    registered.save(run.frames.ledger.trial_folder(trial), tmp_path / "model")
    manifest = json.loads(next((tmp_path / "model").rglob("manifest.json")).read_text())
    assert manifest["several"] and len(manifest["thresholds"]) == 3
    network, image = run.predictor("partial"), np.full((40, 40, 3), 120, np.uint8)
    served = Classifier.from_folder(next((tmp_path / "model").rglob("manifest.json")).parent)
    assert np.allclose(served.probabilities([image]), network(image[None]), atol=1e-6)


def test_sets_are_of_one_true_class(run: Results) -> None:
    with pytest.raises(ConfigError, match="may have several labels.* leave --sets out"):
        prediction_sets(run.frames, run.pick("partial"), 0.9)
    assert known_sets(run.frames, run.pick("partial")) == []


def test_no_picture_is_drawn_to_be_given_one_class(run: Results) -> None:
    with pytest.raises(ConfigError, match="may have several labels there, and pictures to label are drawn for one class"):
        question_to_decide(run, "")


@pytest.mark.parametrize(("header", "asked"), [("file,labels", "labels"), ("file,label,kind", "label,kind")])
def test_a_column_that_holds_the_labels_is_not_said_to_be_left(header: str, asked: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    cells = (lambda k: "a|b" if k % 2 else "a" if k % 3 else "b") if asked == "labels" else (lambda k: f"{k % 2},{int(k % 3 == 0)}")
    (tmp_path / "named.csv").write_text("\n".join([header, *(f"{k:03d}.png,{cells(k)}" for k in range(60))]))
    assert "not taken" not in open_dataset(f"table:{tmp_path / 'named.csv'}?labels={asked}").form


def test_a_table_of_columns_is_told_the_whole_option(tmp_path: Path) -> None:
    pictures(tmp_path)
    rows = [f"{k:03d}.png,{k % 2},{int(k % 3 == 0)},{int(k % 5 == 0)},0" for k in range(60)]
    (tmp_path / "bits.csv").write_text("\n".join(["file,a,b,c,d", *rows]))
    with pytest.raises(DataError, match=r"\?labels=a,b,c,d\. Where"):
        open_dataset(f"table:{tmp_path / 'bits.csv'}")
