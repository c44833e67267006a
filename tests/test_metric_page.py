"""A finished study as if another metric had been asked for: the same networks, and every number, word and decision by it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from analysis import report
from analysis.data.question import Question
from analysis.load import load
from analysis.page.card import cards
from analysis.verdict import findings
from analysis.words.answer import Answer, Standing
from analysis.words.next_step import NextStep
from study.scoring import find_metric
from study.scoring.metric import MEMBERS
from study.tracking.ledger import Ledger
from tests.goldens import rewrite
from tests.test_metric import by_scikit_learn

DIGITS = tuple("0123456789")
COSTS = [[0.0 if i == j else 5.0 if i == 8 else 1.0 for j in range(10)] for i in range(10)]
ASKED = ("accuracy", "f1:8", "auroc", "average_precision", "log_loss", "brier", f"quadratic_kappa:{','.join(DIGITS)}",
    "cost:" + json.dumps([DIGITS, *COSTS]))  # fmt: skip


def asked_by(ledger: Ledger, text: str) -> Ledger:
    """Return the golden study by another metric. Its validation scores are those of macro-F1 less one, which orders trials alike."""
    metric = find_metric(text)
    rewrite(ledger, '"max_epochs": 3', f'"max_epochs": 3, "metric": {json.dumps(metric.text)}')
    rewrite(ledger, "best validation macro-F1", f"best validation {metric.words}")
    for path in Path(ledger.folder.root).rglob("*.json*"):
        if path.name in ("result.json", "epochs.jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            path.write_text("\n".join(_scored(line, metric.key) for line in lines) + "\n")
    return ledger


def _scored(line: str, key: str) -> str:
    values = json.loads(line)
    for part in ("val", "train"):
        if f"{part}/macro_f1" in values["metrics"]:
            values["metrics"].setdefault(f"{part}/{key}", values["metrics"][f"{part}/macro_f1"] - 1)
    return json.dumps(values)


@pytest.mark.parametrize("text", [ASKED[1], ASKED[4], ASKED[-1]])
def test_a_page_speaks_of_the_metric_alone(text: str, copy: Ledger, tmp_path: Path) -> None:
    metric = find_metric(text)
    summary = report.write_report(asked_by(copy, text), tmp_path / "r.html", tables=str(tmp_path / "t"))
    page = (tmp_path / "r.html").read_text()
    words = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
    beside = words.replace('<th class="n">macro-F1</th>', "").replace("<td>macro-F1</td>", "")  # the table of all metrics
    assert "macro-F1" not in beside and "Macro-F1" not in beside and "{metric}" not in page, re.findall(r".{60}acro-F1.{20}", beside)
    assert metric.words in summary.verdicts[0] + summary.answers[0].score
    assert summary.values["metric"] == metric.text
    (question,) = summary.values["questions"]
    mean = question["sides"][0]["metrics"][metric.name]["mean"]
    assert mean >= 0  # as people read it: a loss is positive
    shown = f"{abs(100 * mean):.1f}"
    assert f"<b>{shown}</b>" in page
    assert summary.picks[0]["test"]["mean"] >= 0 and summary.picks[0]["test"]["low"] <= summary.picks[0]["test"]["high"]


@pytest.mark.parametrize("text", ASKED)
def test_a_studys_scores_are_scikit_learns(text: str, copy: Ledger) -> None:
    frames = load(asked_by(copy, text))
    found, metric = findings(frames), frames.scored_by.bind(DIGITS)
    rows = found.runs[found.runs.metric == metric.key]
    for row in rows.to_dict("records"):
        said = frames.predictions(row["trial_id"])
        p = metric.said(said["test"].logits, metric.temperature(said["val"].logits, said["val"].labels)).probabilities
        assert p is not None
        w = np.ones(len(p))
        if metric.name == "cost":
            named = (p @ np.array(COSTS)).argmin(axis=1)
            theirs = -float(np.array(COSTS)[said["test"].labels, named].mean())
        elif metric.name == "f1":
            theirs = by_scikit_learn("f1", (said["test"].labels == 8).astype(int), np.eye(2)[(p.argmax(axis=1) == 8).astype(int)], w)
        else:
            theirs = by_scikit_learn(text, said["test"].labels, p, w)
        assert row["score"] == pytest.approx(theirs, abs=1e-9)
        assert row["low"] <= row["score"] <= row["high"]
    assert len(rows) == 6


def test_costs_decide_the_winner_in_the_users_own_unit(copy: Ledger) -> None:
    found = findings(load(asked_by(copy, ASKED[-1])))
    (pair,) = found.pairs.to_dict("records")
    means = found.strategies[found.strategies.metric == "neg_cost"].set_index("strategy")["mean"]
    assert means["partial"] > means["linear_probe"] and pair["difference"] == pytest.approx(means[pair["a"]] - means[pair["b"]])
    (sentence,) = found.sentences
    assert "partial instead of linear_probe saves +" in sentence.text and "cost per 100 images, 95 % interval" in sentence.text
    assert "It costs" in found.answers[0].score and "The cheapest answer to every image alike costs" in found.answers[0].score


def test_the_usual_metric_is_as_it_was(copy: Ledger) -> None:
    study = load(copy).study
    assert study.protocol.metric == "macro_f1" and "metric" not in json.dumps(study.as_dict()["protocol"])


@pytest.mark.parametrize("metric", ["macro_f1", "cost", "log_loss", "brier"])
def test_the_axis_of_a_card_goes_from_its_first_tick_to_its_last(metric: str) -> None:
    asked = MEMBERS[metric]
    sign = 1 if asked.higher else -1
    rows = tuple(
        Standing(strategy=s, mean=sign * m, low=sign * m - 0.05, high=sign * m + 0.04, runs=3, used=s == "full", metric=asked)
        for s, m in (("full", 0.62), ("partial", 0.57))
    )
    question = Question(dataset="digits", splits="official", backbone="resnet18", train_fraction=1.0)
    answer = Answer(
        question=question, mark="open", do="", why=(), worth=None, rests_on="", strategies=rows, next_step=NextStep(text=""),
    )  # fmt: skip
    (card,) = cards([answer])["answers"]
    ticks = [t["at"] for t in card["ticks"]]
    assert ticks[0] == 0 and ticks[-1] == 100 and len(set(ticks)) == len(ticks) > 2 and asked.words in card["axis"]
    for row in card["rows"]:
        assert row["left"] < row["at"] < row["left"] + row["width"] <= 100
