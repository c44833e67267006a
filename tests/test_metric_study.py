"""Whole studies by another metric: training, choice, test, delivery and words all go by it."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from study import Protocol, Study, deliver, export, grid, load_study, predict, run_study
from study.errors import ConfigError
from study.inference.softmax import softmax
from study.question.studies import narrow, settings
from study.results import Results
from study.scoring import find_metric
from tests.own import scene

SMALL = Protocol(max_epochs=2, image_size=32, batch_size=32, views=2, train_eval_images=32, warmup_epochs=0.5, min_steps=20)
MATRIX = np.array([[0, 10], [1, 0]], float)  # sick, well: a sick one that is missed costs ten


def clinic(root: Path, well: int = 220, sick: int = 70) -> Path:
    """Write scenes, of which those of the sick are a little redder."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(["well"] * well + ["sick"] * sick):
        (root / name).mkdir(parents=True, exist_ok=True)
        red = np.asarray(scene(k), float) + np.array([rng.normal(45 if name == "sick" else 0, 25), 0, 0])
        Image.fromarray(red.clip(0, 255).astype(np.uint8)).save(root / name / f"{k:03d}.png")
    return root


def asked(images: Path, metric: str, **more: object) -> Study:
    cells = grid([f"folder:{images}"], ["efficientnet_lite0"], ["linear_probe", "partial"])
    fields: dict = {
        "trials": 2,
        "random_trials": 1,
        "grace_epochs": 1,
        "confirm_seeds": 2,
        "budget_check": 0,
        "line_size": 32,
        "protocol": SMALL,
    }
    return Study(name="clinic", cells=cells, metric=metric, **{**fields, **more})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic(tmp_path_factory.mktemp("clinic") / "pictures")


@pytest.fixture(scope="module")
def costly(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("costly")
    (folder / "costs.csv").write_text("truth,well,sick\nwell,0,1\nsick,10,0\n")
    study = asked(images, f"cost:{folder / 'costs.csv'}", budget_check=2, longest=2)
    (folder / "costs.csv").unlink()  # the study keeps the numbers
    return run_study(study, results=folder, local=True)


def test_costs_go_through_a_whole_study(costly: Results) -> None:
    frames, metric = costly.frames, costly.study.scored_by.bind(["sick", "well"])
    assert frames.scored_by.name == "cost" and "val/neg_cost" in frames.trials and "best validation cost" in frames.rule
    ledger = frames.ledger
    for trial in ledger.trials():
        assert trial.result is not None and trial.result.objective == trial.result.metrics["val/neg_cost"] <= 0
        assert all(e.objective == e.metrics["val/neg_cost"] for e in trial.epochs)
    for cell, chosen in frames.chosen.items():  # the cheapest on validation, though it may not have the highest macro-F1
        own = frames.trials[(frames.trials.cell == cell) & (frames.trials.stage == "search")]
        assert chosen == own.sort_values("val/neg_cost", ascending=False).iloc[0].trial_id
    for row in costly.findings.runs[costly.findings.runs.metric == "neg_cost"].to_dict("records"):
        said = frames.predictions(row["trial_id"])
        t = metric.temperature(said["val"].logits, said["val"].labels)
        named = (softmax(said["test"].logits / t) @ MATRIX).argmin(axis=1)
        assert row["score"] == pytest.approx(-MATRIX[said["test"].labels, named].mean())
    (answer,) = costly.answers
    assert "per 100 images" in answer.score and "macro-F1" not in answer.text
    assert all("macro-F1" not in s.text for s in costly.findings.sentences)
    assert frames.budgets and all("gain" in own for own in frames.budgets[0]["rounds"][0]["strategies"].values())


def test_what_is_predicted_costs_least(costly: Results, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main([str(costly.folder), str(images / "sick"), "--csv", str(tmp_path / "p.csv")]) == 0
    with open(tmp_path / "p.csv") as file:
        rows = list(csv.DictReader(file))
    p = np.array([[float(r["p(sick)"]), float(r["p(well)"])] for r in rows])
    assert [r["class"] for r in rows] == np.array(["sick", "well"])[(p @ MATRIX).argmin(axis=1)].tolist()
    assert any(r["class"] == "sick" and float(r["p(sick)"]) < 0.5 for r in rows)
    assert "says well from a probability of 0.91 on, which costs least" in capsys.readouterr().err
    assert export.main([str(costly.folder), "--format", "timm", "--to", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert told["costs"]["matrix"] == MATRIX.tolist() and told["threshold"]["at_least"] == pytest.approx(10 / 11)
    assert "it says well from a probability of 0.91" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_the_same_question_by_another_metric_is_another_study(costly: Results, images: Path) -> None:
    folder = costly.folder
    results = folder.parent if isinstance(folder, Path) else str(folder).rpartition("/")[0]
    with pytest.raises(ConfigError, match="metric"):
        run_study(asked(images, "accuracy", budget_check=2, longest=2), results=results, local=True)


def test_a_threshold_is_handed_over(images: Path, tmp_path: Path) -> None:
    found = run_study(asked(images, "f1:sick"), results=tmp_path, local=True)
    pick = found.pick()
    said = found.frames.predictions(pick.trial)
    t = pick.deciding.threshold
    assert t is not None and pick.deciding.of == 0 and pick.decided is not None and "chosen on validation for F1 of sick" in pick.rule
    named = softmax(said["test"].logits / pick.temperature)[:, 0] >= t
    assert pick.decided.mean == pytest.approx(reference.f1_score(said["test"].labels == 0, named))
    assert pick.test is not None and pick.test.mean == pytest.approx(
        reference.f1_score(said["test"].labels == 0, said["test"].logits.argmax(axis=1) == 0)
    )
    page = (Path(str(found.folder)) / "report.html").read_text()
    assert "Precision and recall over thresholds" in page and "F1 of sick" in page
    assert deliver.main([str(found.folder)]) == 0
    after = load_study(str(found.folder))
    rule = after.pick().deciding
    (entry,) = after.frames.ledger.delivered().values()
    assert after.pick().delivered is not None and entry["threshold"] == {"at": rule.threshold, "of": 0}
    network = after.predictor()
    assert network.named(np.array([[t, 1 - t], [0.0, 1.0]])).tolist()[1] == 1 and network.deciding == rule


@pytest.mark.parametrize("metric", ["auroc"])
def test_metrics_of_probabilities_choose_by_them(metric: str, images: Path, tmp_path: Path) -> None:
    found = run_study(asked(images, metric, confirm_seeds=2, trials=2), results=tmp_path, local=True)
    key = found.study.scored_by.key
    for row in found.findings.runs[found.findings.runs.metric == key].to_dict("records"):
        said = found.frames.predictions(row["trial_id"])
        bound = found.study.scored_by.bind(["sick", "well"])
        p = softmax(said["test"].logits / bound.temperature(said["val"].logits, said["val"].labels))
        theirs = {"auroc": lambda y, p: reference.roc_auc_score(y, p[:, 1]), "log_loss": lambda y, p: -reference.log_loss(y, p)}[metric]
        assert row["score"] == pytest.approx(theirs(said["test"].labels, p))
    assert found.study.scored_by.words in found.answers[0].text and "macro-F1" not in found.answers[0].text


def test_what_the_images_cannot_bear_is_said_before_anything_is_trained(images: Path, tmp_path: Path) -> None:
    for metric, needs in (
        ("f1:sck", "Choose from sick"),
        ("quadratic_kappa", "quadratic_kappa:sick,well"),
        ('cost:[["well","ill"],[0,1],[10,0]]', "'ill' that the images do not have"),
    ):
        with pytest.raises(ConfigError) as error:
            run_study(asked(images, metric), results=tmp_path, local=True)
        assert needs in str(error.value) and "\n" not in str(error.value)
        assert not list(tmp_path.rglob("config.json"))


def test_a_metric_is_said_in_many_places_and_kept_in_one(images: Path) -> None:
    usual = asked(images, "")
    assert usual.scored_by == find_metric("macro_f1") and "metric" not in json.dumps(usual.as_dict())
    by_accuracy = asked(images, "accuracy")
    assert by_accuracy.protocol.metric == "accuracy" and Study.from_dict(by_accuracy.as_dict()) == by_accuracy
    assert narrow(usual, metric="accuracy") == by_accuracy == narrow(usual, **settings(["metric=accuracy"]))
    costs = narrow(usual, metric='cost:[["sick","well"],[0,250],[25,0]]')
    assert costs.margin == 25 and narrow(usual, metric='cost:[["sick","well"],[0,250],[25,0]]', margin=3.0).margin == 3
    assert narrow(costs, trials=4).protocol.metric == costs.protocol.metric
    with pytest.raises(ConfigError, match="below 100, the most that accuracy can differ by"):
        asked(images, "accuracy", margin=120.0)
    assert math.isinf(find_metric("log_loss").width)
