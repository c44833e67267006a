"""Classes in an order: numbered so, refused where the order is not theirs, and how far off answers are beside how many are right."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from analysis.data.question import Question
from analysis.findings.comparisons import Gathered
from analysis.findings.ordered import ordered
from study.datasets import open_dataset
from study.errors import ConfigError
from study.question.cell import Cell, grid
from study.question.naming import DataName
from study.question.study_config import Study
from study.scoring.steps import step_figures
from tests.own import classes

ORDER = ("mild", "moderate", "severe")


def test_classes_are_numbered_in_their_order_and_by_name_without_one(tmp_path: Path) -> None:
    folder = classes(tmp_path / "p", {"severe": 6, "mild": 7, "moderate": 8})
    table = open_dataset(f"folder:{folder}?ordered=mild,moderate,severe")
    plain = open_dataset(f"folder:{folder}")
    assert table.classes == ORDER and table.ordered and not plain.ordered
    assert np.bincount(table.labels).tolist() == [7, 8, 6]
    assert table.ids == plain.ids and (table.split == plain.split).all()
    backwards = open_dataset(f"folder:{folder}?ordered=severe,moderate,mild")
    assert (backwards.labels == 2 - table.labels).all()


@pytest.mark.parametrize(("order", "why"), [
    ("mild,moderate,grave", "ordered names 'grave', which is no class"), ("mild,severe", "does not name moderate. Name all 3 classes"),
    ("mild,mild,severe", "every class once"), ("mild", "every class once"),
])  # fmt: skip
def test_an_order_that_is_not_of_the_classes_is_refused_in_a_line(order: str, why: str, tmp_path: Path) -> None:
    folder = classes(tmp_path / "p", dict.fromkeys(ORDER, 6))
    with pytest.raises(ConfigError, match=why):
        open_dataset(f"folder:{folder}?ordered={order}")


def test_steps_and_kappa_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, named = rng.integers(0, 4, 80), rng.integers(0, 4, 80)
    found = step_figures(named, labels, 4)
    assert found["mean_step"] == pytest.approx(mean_absolute_error(labels, named))
    assert found["quadratic_kappa"] == pytest.approx(cohen_kappa_score(labels, named, weights="quadratic"))


def gathered(options: str, nested: bool = False) -> Gathered:
    """Return two strategies that are right equally often: one errs by a step, the other to the other end."""
    data = DataName.parse(f"folder:/x{options}")
    cell = Cell(dataset=data.dataset, backbone="resnet18", strategy="full")
    rng = np.random.default_rng(1)
    labels = np.tile([0, 2], 100)
    near, far = {}, {}
    for seed in range(3):
        wrong = rng.random(200) < 0.3
        near[seed], far[seed] = np.where(wrong, 1, labels), np.where(wrong, 2 - labels, labels)
    return Gathered(
        question=Question.of_cell(cell, Study(name="s", cells=(cell,))), images=np.arange(200).astype(str), labels=labels, groups=None,
        fold=np.arange(200) % 5 if nested else np.zeros(200, int),
        searches=dict.fromkeys(range(3), 0) if not nested else {k: k for k in range(3)},
        classes=ORDER, nested=nested, predicted={"full": far, "partial": near},
    )  # fmt: skip


@pytest.mark.parametrize("nested", [False, True])
def test_a_slip_and_a_leap_are_told_apart_where_f1_has_the_same(nested: bool) -> None:
    near, far = ordered([gathered("?ordered=mild,moderate,severe", nested)], resamples=200)
    assert (near.strategy, far.strategy) == ("partial", "full")
    assert near.exact == far.exact and near.within_one == 1 > far.within_one
    assert near.step == pytest.approx(0.3, abs=0.05) and far.step == pytest.approx(2 * near.step)
    assert near.step_low < near.step < near.step_high and near.kappa_low < near.kappa < near.kappa_high <= 1
    assert far.apart_low > 0 and near.apart == 0
    assert near.kappa > far.kappa
    assert ordered([gathered("")]) == []


def test_kappa_goes_by_the_order_that_the_data_name() -> None:
    cells = grid(["folder:/x?ordered=mild,moderate,severe"], ["resnet18"], ["full"])
    study = Study(name="s", cells=cells, metric="quadratic_kappa")
    assert study.scored_by.bind(("severe", "mild", "moderate")).order == ORDER
    assert Study.from_dict(study.as_dict()) == study
    own = Study(name="s", cells=cells, metric="quadratic_kappa:severe,moderate,mild")
    assert own.scored_by.order == ORDER[::-1], "one that is named goes before"
    with pytest.raises(ConfigError, match="needs an order"):
        Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"]), metric="quadratic_kappa").scored_by.bind(ORDER)
