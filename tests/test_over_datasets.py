"""Comparisons over data sets: the questions that belong together, and the limits of what may be said of them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import report
from analysis.data.question import Question
from analysis.findings.comparisons import Compared
from analysis.findings.over_datasets import OverDatasets, over_datasets
from analysis.findings.verdict_pairs import judge
from analysis.load import load
from analysis.statistics.intervals import Estimate, Part
from study.question.trial_config import TrialConfig
from study.tracking.ledger import Ledger
from tests.browser import page
from tests.goldens import GOLDEN

PLACE = {"splits": "official", "backbone": "resnet18", "train_fraction": 1.0}


def found(differences: Sequence[float], turn: int | None = None, **places: str) -> list[OverDatasets]:
    """Return the result for one pair on data sets d0, d1, and so on.

    The `turn`-th has its strategies the other way round, and `places` gives another backbone by data set.
    """
    part = Part(variance=0.01**2 / 5, df=4, count=5)
    images = Part(variance=0.001**2, df=3499, count=3500)
    compared = []
    for k, points in enumerate(differences):
        a, b, d = ("full", "partial", -points) if k == turn else ("partial", "full", points)
        question = Question(dataset=f"d{k}", **{**PLACE, "backbone": places.get(f"d{k}", "resnet18")})
        estimate = Estimate(mean=d / 100, runs=(part, part), images=images, unit="run", searches=1, resampled=3500)
        compared.append(Compared(question=question, a=a, b=b, estimate=estimate, seeds=5, collapses=()))
    return over_datasets(judge(compared, load(GOLDEN.as_posix())))


@pytest.mark.parametrize("turn", [None, 0, 2])
def test_the_mean_is_over_data_sets_whichever_way_round_a_pair_stands(turn: int | None) -> None:
    points = [8.0, -6.0, 0.2, 4.0]
    (one,) = found(points, turn)
    sign = -1 if turn == 0 else 1
    expected = stats.ttest_1samp(sign * np.array(points) / 100, 0).confidence_interval()
    assert (one.across.low, one.across.high) == pytest.approx(tuple(expected))
    assert (one.across.better, one.across.worse) == ((2, 1) if sign > 0 else (1, 2))
    assert one.text.startswith(f"{'full against partial' if sign < 0 else 'partial against full'} (resnet18): better in ")
    assert "neither shown in 1" in one.text and one.text.endswith("From fewer than 5 data sets nothing general is claimed.")


def test_five_data_sets_may_speak_of_others() -> None:
    (one,) = found([3.0, 4.0, 5.0, 6.0, 7.0])
    assert one.across.general and "nothing general" not in one.text and "better in 5 of 5 data sets, worse in 0;" in one.text


def test_what_differs_in_more_than_the_data_set_is_not_joined() -> None:
    assert found([3.0, 4.0], d1="resnet50") == [] and found([3.0]) == []
    (one,) = found([3.0, 4.0, 5.0], d1="resnet50")
    assert [q.dataset for q in one.questions] == ["d0", "d2"]


def test_the_page_and_the_tables_hold_it(tmp_path: Path) -> None:
    """The runs of the golden study are told a second time as those of another data set."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    report.write_report(twice(Ledger(tmp_path / "results", "golden")), tmp_path / "r.html", tables=str(tmp_path / "t"))
    (row,) = pd.read_csv(tmp_path / "t" / "over_datasets.csv").to_dict("records")
    assert (row["names"], row["datasets"], row["general"]) == ("digits; other", 2, False)
    with page() as p:
        p.goto((tmp_path / "r.html").as_uri())
        assert p.locator("#over-data-sets + p + ul li").all_text_contents() == [row["text"]]
        assert "better in 0 of 2 data sets" in row["text"]


def test_one_data_set_has_no_such_section(tmp_path: Path) -> None:
    report.write_report(str(GOLDEN), tmp_path / "r.html")
    assert "Over data sets" not in (tmp_path / "r.html").read_text()


def twice(ledger: Ledger) -> Ledger:
    """Return every cell and every run a second time, as of a data set named other."""
    root = Path(ledger.folder.root)
    asks = {p.name: json.loads((p / "config.json").read_text().replace('"digits"', '"other"')) for p in (root / "trials").iterdir()}
    ids = {name: TrialConfig.from_dict(ask["config"]).id for name, ask in asks.items()}
    for old, new in ids.items():
        shutil.copytree(root / "trials" / old, root / "trials" / new)
        for path in (root / "trials" / new).glob("*.json"):
            path.write_text(path.read_text().replace(old, new).replace("digits/official", "other/official").replace('"digits"', '"other"'))
    values = json.loads((root / "study.json").read_text())
    values["study"]["cells"] += [{**c, "dataset": "other"} for c in values["study"]["cells"]]
    (root / "study.json").write_text(json.dumps(values))
    selection = json.loads((root / "selection.json").read_text())
    selection["chosen"] |= {cell.replace("digits", "other"): ids[trial] for cell, trial in selection["chosen"].items()}
    (root / "selection.json").write_text(json.dumps(selection))
    return ledger
