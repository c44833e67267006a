"""The metric of a study: weighted scores against scikit-learn's, what each image contributes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from study.errors import ConfigError
from study.inference.softmax import softmax
from study.scoring.metric import INFLUENCES, MEMBERS, SCORES, Metric, Said, find_metric

CLASSES = ("a", "b", "c")
COSTS = 'cost:[["a","b","c"],[0,1,2],[5,0,1],[9,3,0]]'
ASKED = (
    "macro_f1", "accuracy", "balanced_accuracy", "f1:b", "auroc", "average_precision", "log_loss", "brier", "quadratic_kappa:a,b,c", COSTS,
)  # fmt: skip


def made(classes: int = 3, n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels [n], probabilities [n, C] with ties, and weights [n] of one resample."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).round(1) + 1.5 * np.eye(classes)[labels]
    return labels, softmax(logits.round(1)), rng.multinomial(n, np.full(n, 1 / n))


def bound(text: str, classes: tuple[str, ...] = CLASSES) -> Metric:
    return find_metric(text).bind(classes)


def by_scikit_learn(text: str, labels: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    said, onehot = p.argmax(axis=1), np.eye(p.shape[1])[labels]
    name = text.partition(":")[0]
    if name == "cost":
        matrix = np.array([[0, 1, 2], [5, 0, 1], [9, 3, 0]], float)
        return -float(np.average(matrix[labels, (p @ matrix).argmin(axis=1)], weights=w))
    return float(
        {
            "macro_f1": lambda: reference.f1_score(labels, said, average="macro", sample_weight=w),
            "accuracy": lambda: reference.accuracy_score(labels, said, sample_weight=w),
            "balanced_accuracy": lambda: reference.balanced_accuracy_score(labels, said, sample_weight=w),
            "f1": lambda: reference.f1_score(labels, said, labels=[1], average="macro", sample_weight=w),
            "auroc": lambda: reference.roc_auc_score(onehot, p, average="macro", sample_weight=w),
            "average_precision": lambda: reference.average_precision_score(onehot, p, average="macro", sample_weight=w),
            "log_loss": lambda: -reference.log_loss(labels, p, sample_weight=w),
            "brier": lambda: -reference.brier_score_loss(labels, p, sample_weight=w, labels=[*range(p.shape[1])], scale_by_half=True),
            "quadratic_kappa": lambda: reference.cohen_kappa_score(labels, said, weights="quadratic", sample_weight=w),
        }[name]()
    )


@pytest.mark.parametrize("text", ASKED)
def test_a_score_on_resampled_images_is_scikit_learns(text: str) -> None:
    metric = bound(text)
    labels, p, w = made()
    said = Said(named=metric.decide(p), probabilities=p)
    whole = metric.score(labels, said)
    again = metric.score(labels, said, np.stack([np.ones_like(w), w]))
    assert float(whole) == pytest.approx(by_scikit_learn(text, labels, p, np.ones(len(labels))), abs=1e-12)
    assert again == pytest.approx([float(whole), by_scikit_learn(text, labels, p, w)], abs=1e-12)
    assert metric.low <= float(whole) <= metric.high


@pytest.mark.parametrize("text", ["auroc", "brier", "average_precision"])
def test_two_classes_are_as_scikit_learn_has_them(text: str) -> None:
    labels, p, w = made(2)
    metric = find_metric(text).bind(("a", "b"))
    own = float(metric.score(labels, Said(named=metric.decide(p), probabilities=p), w[None])[0])
    if text == "average_precision":
        both = [reference.average_precision_score(labels == c, (2 * c - 1) * p[:, 1], sample_weight=w) for c in (0, 1)]
        assert own == pytest.approx(np.mean(both), abs=1e-12)
    else:
        expected = {"auroc": reference.roc_auc_score, "brier": lambda *a, **k: -reference.brier_score_loss(*a, **k)}[text]
        assert own == pytest.approx(expected(labels, p[:, 1], sample_weight=w), abs=1e-12)


@pytest.mark.parametrize("text", ASKED)
def test_an_influence_is_the_derivative_by_the_images_weight(text: str) -> None:
    metric, step = bound(text), 1e-3
    labels, p, _ = made(n=60)
    said = Said(named=metric.decide(p), probabilities=p)
    weights = np.ones((60, 60)) + step * np.eye(60)
    moved = (metric.score(labels, said, weights) - metric.score(labels, said, 2 - weights)) / (2 * step)
    found = metric.influences(labels, said)
    assert found.sum() == pytest.approx(0, abs=1e-9)
    assert found == pytest.approx(moved, abs=1e-4 * metric.span)
    assert np.abs(found).max() > 1e-3


def test_a_score_is_higher_where_it_is_better() -> None:
    labels, p, _ = made()
    sure = 0.999 * np.eye(3)[labels] + 0.001 / 3
    for text in ASKED:
        metric = bound(text)
        good, bad = (float(metric.score(labels, Said(named=metric.decide(q), probabilities=q))) for q in (sure, p))
        assert good > bad, text
        assert (metric.shown(good) > metric.shown(bad)) == metric.higher, text


def test_costs_decide_by_what_is_expected_to_cost_least() -> None:
    metric = find_metric('cost:[["sick","well"],[0,10],[1,0]]').bind(("sick", "well"))
    p = np.array([[0.05, 0.95], [0.2, 0.8], [0.9, 0.1]])
    assert metric.decide(p).tolist() == [1, 0, 0]  # a missed sick one costs ten: 0.2 x 10 > 0.8 x 1
    assert metric.margin == 1 and metric.span == 10 and metric.measured == "cost per 100 images"
    turned = metric.bind(("well", "sick"))
    assert turned.decide(p[:, ::-1]).tolist() == [0, 1, 1]


def test_costs_come_from_a_table(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    file.write_text("truth;well;sick\nsick;10;0\nwell;0;1\n")
    metric = find_metric(f"cost:{file}")
    assert metric == find_metric(metric.text)  # the study keeps the numbers, not the file
    assert metric.costs is not None and metric.costs.matrix(("sick", "well")).tolist() == [[0, 10], [1, 0]]


@pytest.mark.parametrize(
    "text, needs",
    [
        ("acuracy", "accuracy"),
        ("f1", "f1:CLASS"),
        ("cost", "cost:costs.csv"),
        ("auroc:a", "takes nothing"),
        ("cost:nowhere.csv", "nowhere.csv"),
        ('cost:[["a","b"],[0,1]]', "square"),
        ('cost:[["a","b"],[1,1],[1,1]]', "costs the same"),
    ],
)
def test_what_is_no_metric_is_refused_with_the_way_out(text: str, needs: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_metric(text)
    assert needs in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "table, needs",
    [
        ("t,a,b,c\na,0,1,1\nb,1,0,1\n", "one of each"),
        ("t,a,b\na,0,1\nb,1\n", "line 3"),
        ("t,a,b\na,0,x\nb,1,0\n", "must be a number"),
        ("t,a,b\na,0,-1\nb,1,0\n", "0 or more"),
        ("t,a,b\na,0,1\nc,1,0\n", "'c'"),
        ("t,b,a\na,1,0\nb,2,1\n", "line 3: to call 'b' what it is costs 2, and to call it 'a' 1"),
        ("t,a,b\na,5,1\nb,1,5\n", "line 2: to call 'a' what it is costs 5, and to call it 'b' 1"),
    ],
)
def test_a_table_of_costs_that_is_none_is_refused_by_line(tmp_path: Path, table: str, needs: str) -> None:
    (tmp_path / "costs.csv").write_text(table)
    with pytest.raises(ConfigError, match="costs.csv") as error:
        find_metric(f"cost:{tmp_path / 'costs.csv'}")
    assert needs in str(error.value)


def test_what_the_data_cannot_bear_is_refused() -> None:
    for text, classes, needs in (
        ("f1:bb", CLASSES, "Choose from b"),
        ("quadratic_kappa", CLASSES, "quadratic_kappa:a,b,c"),
        ("quadratic_kappa:a,b", CLASSES, "each of them once"),
        (COSTS, ("a", "b", "cc"), "Did you mean cc"),
        (COSTS, ("a", "b", "c", "d"), "d missing"),
    ):
        with pytest.raises(ConfigError) as error:
            find_metric(text).bind(classes)
        assert needs in str(error.value)
    assert find_metric("quadratic_kappa").bind(CLASSES, order=("c", "a", "b")).ranks.tolist() == [1, 2, 0]
    with pytest.raises(ConfigError, match="c has none"):
        bound("auroc").check(np.array([0, 1, 1]))
    bound("macro_f1").check(np.array([0, 1, 1]))


def test_every_member_has_its_functions() -> None:
    assert MEMBERS.keys() == SCORES.keys() == INFLUENCES.keys() == {t.partition(":")[0] for t in ASKED}
