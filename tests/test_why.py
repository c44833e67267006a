"""The paper's explanations against what was measured: verdicts whose truth was planted, the page's section, and what cannot be said."""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.figures import FIGURES
from analysis.load import load
from analysis.report import main, write_report
from analysis.verdict import findings
from analysis.why.contrasts import Contrast
from analysis.why.explanations import Relation, adjusted, explain, judge, partial_rank_correlation, relation_of, why_rows
from analysis.why.measures import EXPLANATIONS, MEASURED
from study.measure import MEASUREMENTS
from study.tracking.ledger import Ledger
from tests.planted import plant

GOLDEN = Path(__file__).parent / "golden" / "study" / "golden"
REUSE, OVERFITTING, FORGETTING = EXPLANATIONS


def contrast(measure: int, mean: float, holm: float, explanation: Any = REUSE) -> Contrast:
    return Contrast(
        measure=explanation.measures[measure],
        less=0.5,
        more=0.5 - mean,
        mean=mean,
        low=mean - 0.1,
        high=mean + 0.1,
        p=holm,
        units=5,
        holm=holm,
    )


BETTER = Contrast(measure=REUSE.measures[0], less=0.6, more=0.5, mean=0.1, low=0.05, high=0.15, p=0.001, units=5)
OPEN, WORSE = (dataclasses.replace(BETTER, mean=m, low=m - 0.05, high=m + 0.05) for m in (0.0, -0.1))


LOWER, UNSURE, HIGHER = (Relation(value=v, low=v - 0.3, high=v + 0.3, trials=12) for v in (-0.5, -0.1, 0.2))
FEW = Relation(value=math.nan, low=math.nan, high=math.nan, trials=4)


@pytest.mark.parametrize(
    ("contrasts", "score", "relation", "verdict", "says"),
    [
        ([contrast(0, 0.3, 0.001), contrast(1, 0.1, 0.4)], BETTER, LOWER, "supported",
            "goes with lower scores (rank correlation -0.50, 95 % interval -0.80 to -0.20)"),
        ([contrast(0, 0.3, 0.001)], WORSE, LOWER, "contradicted", "yet full scores better"),
        ([contrast(0, -0.3, 0.001)], BETTER, LOWER, "contradicted", "the other way"),
        ([contrast(0, 0.3, 0.001), contrast(1, -0.3, 0.001)], BETTER, LOWER, "undecided", "the other way"),
        ([contrast(0, 0.3, 0.001)], OPEN, LOWER, "undecided", "not shown to score better"),
        ([contrast(0, 0.3, 0.001)], None, LOWER, "undecided", "not shown to score better"),
        ([contrast(0, 0.3, 0.001)], BETTER, UNSURE, "undecided", "is not shown to go with lower scores (rank correlation -0.10"),
        ([contrast(0, 0.3, 0.001)], BETTER, HIGHER, "undecided", "higher scores, not lower ones"),
        ([contrast(0, 0.3, 0.001)], BETTER, FEW, "undecided", "4 trials of full are too few"),
        ([contrast(0, 0.05, 0.2)], BETTER, LOWER, "undecided", "runs of each would show"),
    ],
)  # fmt: skip
def test_each_verdict_has_its_case(contrasts: list[Contrast], score: Contrast | None, relation: Relation, verdict: str, says: str) -> None:
    found, because = judge(REUSE, contrasts, score, relation, "partial", "full")
    assert found == verdict and says in because


def test_how_far_weights_went_explains_nothing_by_itself() -> None:
    distance = contrast(4, -0.3, 0.001, FORGETTING)
    found, because = judge(FORGETTING, [distance], BETTER, LOWER, "partial", "full")
    assert found == "not measured" and "the distance after the first epoch alone" in because
    found, because = judge(FORGETTING, [contrast(0, 0.3, 0.4, FORGETTING), distance], BETTER, LOWER, "partial", "full")
    assert found == "undecided" and "nothing measured is shown to differ" in because


def test_measures_of_all_explanations_share_their_level() -> None:
    """None of five measures at p = 0.02 is shown to differ, where one alone would be. Measures beside the verdict take no part."""
    one = dataclasses.replace(contrast(0, 0.3, 0.9), p=0.02)
    ((_, (alone,)),) = adjusted([(REUSE, [one])])
    assert alone.direction == 1
    others = [dataclasses.replace(contrast(k, 0.3, 0.9, FORGETTING), p=0.02) for k in (0, 2, 3, 4)]
    found = dict(adjusted([(REUSE, [one]), (FORGETTING, others)]))
    assert {c.direction for own in found.values() for c in own} == {0}
    assert [c.holm for c in found[FORGETTING]][:3] == pytest.approx([0.08] * 3) and math.isnan(found[FORGETTING][3].holm)


def test_a_relation_has_an_interval_that_holds_none_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    missed = {
        n: np.mean([not r.low < 0 < r.high for r in (relation_of(*rng.standard_normal((3, n))) for _ in range(400))]) for n in (8, 30)
    }
    assert all(rate < 0.05 + 3 * 0.011 for rate in missed.values())
    far = rng.standard_normal(40)
    close = relation_of(far, -far + 0.3 * rng.standard_normal(40), rng.standard_normal(40))
    assert close.low < close.value < close.high < -0.7 and close.trials == 40
    certain = relation_of(np.arange(9.0), -np.arange(9.0), rng.standard_normal(9))
    assert -1 <= certain.low <= certain.high < -0.9


def test_the_claim_of_a_measure_has_a_sign() -> None:
    """The claim 'forgets less' means less divergence of the original head. More of it is the other way."""
    assert contrast(2, -0.3, 0.001, FORGETTING).direction == 1 and contrast(2, 0.3, 0.001, FORGETTING).direction == -1
    assert contrast(2, -0.3, 0.2, FORGETTING).direction == 0


def test_a_third_variable_is_taken_out_of_a_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    common = rng.standard_normal(3000)
    a, b = common + 0.3 * rng.standard_normal(3000), common + 0.3 * rng.standard_normal(3000)
    assert np.corrcoef(a, b)[0, 1] > 0.8 and abs(partial_rank_correlation(a, b, common)) < 0.1
    assert partial_rank_correlation(a, -a, rng.standard_normal(3000)) == pytest.approx(-1, abs=1e-6)
    assert math.isnan(partial_rank_correlation(np.ones(9), np.arange(9), np.arange(9)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why") / "golden"
    shutil.copytree(GOLDEN, folder)
    plant(Ledger(folder.parent, "golden"))
    return folder


def test_planted_corruption_and_forgetting_are_found(measured: Path) -> None:
    frames = load(str(measured))
    found = explain(frames, findings(frames, 50).seeds)
    assert {w.explanation.name for w in found} == {"reuse", "overfitting", "forgetting"} and {(w.less, w.more) for w in found} == {
        ("linear_probe", "partial")
    }
    rows = why_rows(found)
    assert (rows[rows.measure.isin(["own_probe", "alignment", "agreement", "kl", "foreign_probe"])].direction == 1).all()
    assert not rows.measure.isin(["background_gap", "copies"]).any(), "left out, never a zero"
    assert all(c.low < c.mean < c.high for w in found for c in w.contrasts)


def test_the_page_has_a_section_and_every_table(measured: Path, tmp_path: Path) -> None:
    summary = write_report(str(measured), tmp_path / "report.html", tables=str(tmp_path / "tables"))
    page = (tmp_path / "report.html").read_text()
    assert '<section id="why">' in page and "Features are reused rather than corrupted" in page
    assert "Left out: background on digits: digits does not say &lt;b&gt;where" in page, "reasons are escaped"
    assert summary.verdicts == write_report(str(GOLDEN), tmp_path / "plain.html").verdicts, "none of it changes a verdict"
    for name in ("why_features", "why_probes", "why_forgetting", "why_corruptions", "calibration"):
        assert f'id="figure-{name}"' in page and len(pd.read_csv(tmp_path / "tables" / f"figure_{name}.csv"))
    assert 'id="figure-why_background"' not in page
    assert set(pd.read_csv(tmp_path / "tables" / "why.csv").explanation) == {"reuse", "overfitting", "forgetting"}


def test_a_network_on_the_way_back_that_loses_nothing_is_named(measured: Path, tmp_path: Path) -> None:
    """The new task's score falls by a tenth on the way back by construction, so nothing is free. Then it does not fall."""
    assert findings(load(str(measured)), 50).free == []
    shutil.copytree(measured, tmp_path / "golden")
    for path in (tmp_path / "golden" / "trials").glob("*/measured/way_back.parquet"):
        rows = [{**r, "macro_f1": 0.7 + 0.001 * (r["share"] < 1)} for r in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows), path)
    (line,) = findings(load(str(tmp_path / "golden")), 50).free
    assert "partial: the network 0% of the way" in line and "keeps 30.0 % more" in line, "a probe moved nothing, so it has no way back"


def test_a_study_without_measurements_says_how_to_get_them(tmp_path: Path) -> None:
    write_report(str(GOLDEN), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "not measured (python -m study.measure RESULTS/STUDY all)" in page


def test_two_seeds_alike_align_fully(measured: Path) -> None:
    frames = load(str(measured))
    spec = next(f for f in FIGURES if f.name == "why_features")
    table = spec.compute(frames, findings(frames, 50))
    assert list(table[table.kind == "seeds"].value) == pytest.approx([1] * 4) and set(table.kind) == {"start", "random", "seeds"}


def test_a_damaged_measurement_is_named_not_passed_over(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(measured, tmp_path / "study")
    broken = next((tmp_path / "study" / "trials").glob("*/measured/cka.parquet"))
    broken.write_bytes(b"PAR1nothing")
    assert main([str(tmp_path / "study"), "--out", str(tmp_path / "report.html")]) == 4
    assert str(broken) in capsys.readouterr().err


def test_what_the_analysis_reads_is_what_is_measured() -> None:
    assert set(MEASURED) == set(MEASUREMENTS) - {"predictions"}
