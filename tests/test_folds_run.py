"""A study by outer folds, run from its first check to its page: its training and test images, and its verdict worked out by hand."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

import study.datasets.__main__ as check
from study import deliver, load_study, sweep
from study.datasets import open_dataset
from study.datasets.audit import Suspect
from study.datasets.spec import TEST, ImageTable
from study.question.trial_config import TrialConfig
from study.records import Stage
from study.tracking.ledger import Ledger
from tests import tiny
from tests.test_folds import images

IMAGES, FOLDS = 40, 5
SOURCE = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
NESTED = Study(
    name="nested", cells=grid([{name!r}], ["efficientnet_lite0"], ["linear_probe", "partial"]),
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=8, views=1, train_eval_images=16, warmup_epochs=0.5),
    folds=5, searches={searches}, trials={searches}, random_trials=0, confirm_seeds={searches},
    grace_epochs=1, line_size=32, budget_check=0,
)
"""


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    (folder / "my_study.py").write_text(SOURCE.format(name=images(folder / "own", "folder", ()), searches=FOLDS))
    return folder / "my_study.py"


@pytest.fixture(scope="module")
def run(question: Path) -> Ledger:
    assert sweep.main([str(question), "--results", str(question.parent / "results"), "--local", "--mlflow", "off"]) == 0
    return Ledger(question.parent / "results", "nested")


def said(ledger: Ledger, strategy: str) -> dict[str, tuple[int, int, int]]:
    """Return by image (its class, its predicted class, the fold it was tested in), from the files that the confirm runs left.

    An image that is tested twice fails.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for ask in ledger.asks(Stage.CONFIRM):
        if ask.config["cell"]["strategy"] == strategy:
            rows = pq.read_table(Path(ledger.trial_folder(ask.trial_id).location) / "measured/predictions.parquet").to_pylist()
            for row in (r for r in rows if r["split"] == "test"):
                assert row["image"] not in found
                found[row["image"]] = (row["label"], int(np.argmax(row["logits"])), ask.number % FOLDS)
    return found


def test_every_image_is_tested_once_by_networks_that_never_saw_it(run: Ledger) -> None:
    name = run.asks()[0].config["cell"]["dataset"]
    tests = [set(np.array(t.ids)[t.split == TEST]) for t in (open_dataset(name, splits=f"official:{k}") for k in range(FOLDS))]
    for strategy in ("features", "linear_probe", "partial"):
        found = said(run, strategy)
        assert len(found) == IMAGES and all(image in tests[fold] for image, (_, _, fold) in found.items())
    for ask in run.asks():
        config = TrialConfig.from_dict(ask.config)
        assert config.cell.splits == f"official:{ask.number % FOLDS}"


def test_the_test_images_of_all_folds_open_together_after_the_last_search(run: Ledger) -> None:
    (opening,) = run.test_openings()
    confirmed = {a.trial_id for a in run.asks(Stage.CONFIRM)}
    assert set(opening["trials"]) == confirmed and len(confirmed) == 3 * FOLDS
    searched = [r.ended_at for a in run.asks(Stage.SEARCH) if (r := run.result(a.trial_id)) is not None]
    assert len(searched) == 2 * FOLDS and max(searched) <= opening["at"]


def test_the_verdict_is_what_the_predictions_on_disk_come_to_by_hand(run: Ledger) -> None:
    """It computes macro-F1 over all folds' predictions together, its derivative by the weight of each image, and the two variances of
    docs/verdict.md.

    None of the product's own code is used.
    """
    own = {s: said(run, s) for s in ("features", "linear_probe", "partial")}
    order = sorted(own["partial"], key=lambda image: (own["partial"][image][2], image))
    truth, fold = (np.array([own["partial"][image][k] for image in order]) for k in (0, 2))
    named = {s: np.array([found[image][1] for image in order]) for s, found in own.items()}

    def score(strategy: str, weights: np.ndarray | None = None) -> float:
        return float(f1_score(truth, named[strategy], average="macro", sample_weight=weights, zero_division=0))

    def influence(strategy: str, step: float = 1e-4) -> np.ndarray:
        each = np.eye(IMAGES) * step
        return np.array([(score(strategy, 1 + e) - score(strategy, 1 - e)) / (2 * step) for e in each])

    def within(values: np.ndarray) -> float:
        means = np.array([values[fold == k].mean() for k in range(FOLDS)])
        return float(IMAGES / (IMAGES - FOLDS) * ((values - means[fold]) ** 2).sum())

    def beyond(values: np.ndarray) -> float:
        u = np.array([values[fold == k].sum() for k in range(FOLDS)])
        return max(FOLDS / (FOLDS - 1) * float(((u - u.mean()) ** 2).sum()) - within(values), 0.0)

    results = load_study(run.folder.location)
    scores = results.strategies[results.strategies.metric == "macro_f1"].set_index("strategy")
    assert {s: scores.loc[s, "mean"] for s in own} == pytest.approx({s: score(s) for s in own})
    assert len(results.pairs) == 3
    for pair in results.pairs.to_dict("records"):
        a, b = influence(pair["a"]), influence(pair["b"])
        runs = max(beyond(a) + beyond(b), beyond(a - b))
        whole = max(runs + within(a - b), IMAGES / (IMAGES - 1) * float(((a - b) ** 2).sum()), (1 / (IMAGES + 2)) ** 2)
        assert pair["difference"] == pytest.approx(score(pair["a"]) - score(pair["b"]))
        assert pair["se_runs"] ** 2 == pytest.approx(runs, abs=1e-6) and pair["searches"] == FOLDS
        assert pair["se_runs"] ** 2 + pair["se_images"] ** 2 == pytest.approx(whole, rel=1e-3)


def test_labels_of_all_images_are_held_against_networks_that_never_saw_them(
    run: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def found(table: ImageTable, images: list[str], logits: list[np.ndarray]) -> list[Suspect]:
        asked.update(images=images, logits=logits)
        return []

    monkeypatch.setattr(check, "likely_label_errors", found)
    name = run.asks()[0].config["cell"]["dataset"]
    assert check.main(["check", name, "--study", run.folder.location]) == 0
    assert f"of all {IMAGES} images whose label is likely wrong" in capsys.readouterr().out
    assert len(asked["images"]) == len(set(asked["images"])) == IMAGES
    named = {tuple(one.argmax(axis=1)) for one in asked["logits"]}
    assert named == {tuple(said(run, s)[image][1] for image in asked["images"]) for s in ("linear_probe", "partial")}


def test_killed_in_a_search_and_while_confirming_it_is_the_same_study(question: Path, run: Ledger, tmp_path: Path) -> None:
    for point in ("after_ckpt_rename:7", "after_tell:13"):
        killed = tiny.run(question, tmp_path, "--local", "--mlflow", "off", env={"STUDY_FAILPOINT": point})
        assert killed.returncode == -9 and not (tmp_path / "nested" / "report.html").exists()
    again = tiny.run(question, tmp_path, "--local", "--mlflow", "off")
    assert again.returncode == 0, again.stderr
    resumed = Ledger(tmp_path, "nested")
    ours, theirs = ([tiny.told(t) for t in sorted(ledger.trials(), key=lambda t: t.ask.trial_id)] for ledger in (run, resumed))
    assert ours == theirs and run.selection() == resumed.selection() and len(resumed.test_openings()) == 1
    tables = [load_study(ledger.folder.location).strategies.sort_values(["metric", "strategy"]) for ledger in (run, resumed)]
    pd.testing.assert_frame_equal(*(t.reset_index(drop=True) for t in tables))


@pytest.fixture
def copied(run: Ledger, tmp_path: Path) -> Ledger:
    shutil.copytree(run.folder.location, tmp_path / "nested")
    return Ledger(tmp_path, "nested")


def test_another_pass_joins_those_that_were_made(copied: Ledger, run: Ledger) -> None:
    more = ["--searches", "10", "--trials", "10", "--confirm-seeds", "10"]
    assert sweep.main([copied.folder.location, "--local", "--mlflow", "off", *more]) == 0
    before, after = ({(a.stage, a.cell, a.number): a.trial_id for a in ledger.asks()} for ledger in (run, copied))
    assert before.items() <= after.items() and len(after) == 2 * len(before) and len(copied.test_openings()) == 2
    results = load_study(copied.folder.location)
    assert set(results.pairs.searches) == {10} and len(results.seeds) == 3 * 4 * 2 and set(results.strategies.images) == {IMAGES}
    tested = [TrialConfig.from_dict(a.config).cell.splits for a in copied.asks(Stage.CONFIRM) if a.number >= FOLDS]
    assert set(tested) == {f"official:{k}+1" for k in range(FOLDS)}


def test_what_is_delivered_is_trained_on_all_images_and_has_the_score_of_all_folds(copied: Ledger) -> None:
    assert deliver.main([copied.folder.location, "--mlflow", "off"]) == 0
    (entry,) = copied.delivered().values()
    ask = copied.ask(entry["trial"])
    assert ask is not None and ask.config["train_on"] == "all" and entry["images"] == IMAGES
    assert len(copied.test_openings()) == 1, "every image was tested before: none is looked at again"
    results = load_study(copied.folder.location)
    pick = results.pick()
    mean = results.strategies[(results.strategies.metric == "macro_f1") & (results.strategies.strategy == pick.cell.strategy)]["mean"]
    assert pick.delivered is not None and pick.test is not None and pick.test.mean == pytest.approx(float(mean.iloc[0]))
    assert f"its strategy's {FOLDS} networks, each on the images that it never saw" in pick.scores
