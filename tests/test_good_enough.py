"""The most that taking a strategy costs, when that makes it good enough, and the words for it."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import report
from analysis.data.frames import Frames
from analysis.load import load
from analysis.page.verdict_values import study_values
from analysis.statistics.decisions import loss_bound
from analysis.statistics.intervals import Estimate, Part
from analysis.verdict import Findings, findings
from benchmarks.good_enough import measure
from study import sweep
from study.conduct.asked import given_fields
from study.errors import ConfigError
from study.question.cell import grid
from study.question.growth import grow
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.scoring.metric import DEFAULT
from tests import sized

OPEN = {"linear_probe": [0.64], "partial": [0.66], "full": [0.65]}
THREE = Protocol(max_epochs=3, image_size=48, views=3, precision="fp32")


def estimate(mean: float, run_sd: float, images_sd: float = 0.0) -> Estimate:
    part = Part(variance=run_sd**2 / 2, df=4, count=5)
    return Estimate(
        mean=mean, runs=(part, part), images=Part(variance=images_sd**2, df=499, count=500), unit="run", searches=1, resampled=500
    )


def made(folder: Path, right: dict[str, list[float]] = OPEN, tests: int = 600, **more: object) -> Frames:
    """Return a study where more training costs more."""
    frames = load(sized.write(folder, right, (1.0,), tests=tests, protocol=THREE, spread=0.02, **more))  # type: ignore[arg-type]
    times = frames.trials.strategy.map({"linear_probe": 1.0, "partial": 2.0, "full": 6.0})
    return dataclasses.replace(frames, trials=frames.trials.assign(seconds=frames.trials.seconds * times))


def asked(frames: Frames, worth: float) -> Findings:
    return findings(dataclasses.replace(frames, study=dataclasses.replace(frames.study, worth=worth)), 100)


def test_the_bound_is_the_largest_upper_limit_of_what_another_one_is_ahead() -> None:
    near, far = estimate(0.01, 0.01), estimate(-0.05, 0.02)
    t = stats.t.ppf(1 - 0.05 / 2, 8)  # Welch's degrees of freedom of two equal parts of four
    assert loss_bound([near, far], 0.025) == pytest.approx(0.01 + t * 0.01)
    assert loss_bound([far], 0.025) == 0.0, "shown to be better than all others, it costs nothing"
    assert math.isnan(loss_bound([near, estimate(0.0, math.nan)], 0.025))
    assert loss_bound([near], 0.0125) > loss_bound([near], 0.025)


def test_the_level_is_shared_by_the_others_of_every_question(tmp_path: Path) -> None:
    (ranking,) = findings(made(tmp_path), 100).rankings
    assert ranking.level == 0.025, "two others: half of 5 % each"
    others = [ranking._minus(o, "linear_probe") for o in ("partial", "full")]
    assert ranking.most("linear_probe") == loss_bound(others, 0.025) > 0


def test_without_a_worth_an_open_study_says_what_the_cheapest_costs_at_most_and_stays_open(tmp_path: Path) -> None:
    found = findings(made(tmp_path), 100)
    (sentence,), (answer,) = found.sentences, found.answers
    assert answer.mark == "open" and sentence.mark == "open"
    said = sentence.head.removeprefix("Undecided between full, partial and linear_probe. Taking linear_probe costs at most ")
    most = float(said.removesuffix(" points (95 %)"))
    assert 2 < most < 8
    assert any(f"and at most {most:g} points (95 %)" in s.text for s in sentence.steps)
    (taken,) = [p for p in found.picks if p.leads]
    assert taken.cell.strategy != "linear_probe", "its mean loss is above the margin, so the card speaks of another one"
    assert re.fullmatch(
        r".* was best on the validation images. Against the best of them it loses at most \d.* points? \(95 % sure\).", answer.why[1]
    )


def test_a_worth_above_the_bound_makes_a_verdict_of_it_and_the_pick_follows(tmp_path: Path) -> None:
    frames = made(tmp_path)
    found = asked(frames, 20.0)
    (answer,), (sentence,) = found.answers, found.sentences
    assert answer.mark == "good enough" and "the head" in answer.do
    assert "(95 %), so it is good enough" in sentence.head and "You allow 20 points for a cheaper strategy." in answer.why
    (pick,) = [p for p in found.picks if p.leads]
    assert pick.cell.strategy == "linear_probe" and pick.reason.startswith("good enough: at most ")
    (most,) = re.findall(r"by at most (\S+) points", " ".join(answer.why))
    assert f"at most {most} points of macro-F1 behind the best" in pick.reason, "one bound, rounded in one way"
    assert "Take linear_probe: the cheapest that is good enough" in sentence.text and "% less than full" in sentence.text
    assert asked(frames, 1.1).answers[0].mark == "open", "no bound is as low"


@pytest.mark.parametrize(
    ("metric", "behind"),
    [
        ("accuracy", "points of accuracy behind the best"),
        ('cost:[["0","1","2","3"],[0,1,1,1],[1,0,1,1],[1,1,0,1],[1,1,1,0]]', "cost per 100 images behind the best"),
    ],
)
def test_what_the_pick_may_lose_is_said_in_the_metrics_own_unit(tmp_path: Path, metric: str, behind: str) -> None:
    frames = made(tmp_path, metric=metric)
    found = asked(dataclasses.replace(frames, trials=frames.trials.assign(**{frames.scored_by.recorded: -0.5})), 30.0)
    (pick,) = [p for p in found.picks if p.leads]
    assert pick.reason.startswith("good enough: at most ") and behind in pick.reason and "macro-F1" not in pick.reason


def test_who_would_give_more_for_the_cheaper_one_takes_it_though_another_is_better(tmp_path: Path) -> None:
    frames = made(tmp_path, {"linear_probe": [0.60], "full": [0.70]}, tests=2000)
    plain, cheap, strict = asked(frames, 0.0), asked(frames, 25.0), asked(frames, 3.0)
    for found in (plain, strict):
        assert found.answers[0].mark == "decided" and [p.cell.strategy for p in found.picks if p.leads] == ["full"]
        assert "costs at most" not in found.sentences[0].head
    assert cheap.answers[0].mark == "good enough" and [p.cell.strategy for p in cheap.picks if p.leads] == ["linear_probe"]
    assert cheap.answers[0].why[0].startswith("Training everything scores higher, by at most ")
    assert cheap.sentences[0].head.startswith("full beats linear_probe by at least 1 point. Taking linear_probe costs at most ")
    assert set(cheap.pairs.verdict) == {"beats"}, "no verdict on a pair changes"


def test_other_programs_are_told_the_bounds(tmp_path: Path) -> None:
    frames = made(tmp_path)
    for worth, name in ((0.0, None), (20.0, "linear_probe")):
        found = asked(frames, worth)
        (ranking,) = found.rankings
        classes = pd.DataFrame(columns=["question", "class"])
        (question,) = study_values(frames, found, classes)["questions"]
        assert question["good_enough"] == name
        assert {s["name"]: s["loss_at_most"] for s in question["sides"]} == {s: ranking.most(s) for s in OPEN}


def test_nothing_is_bounded_by_the_score_of_one_that_was_cut_short(tmp_path: Path) -> None:
    found = asked(made(tmp_path, fitted={"full": 0.6, "partial": 0.97}), 20.0)
    assert found.answers[0].mark == "cut short" and "at most" not in found.sentences[0].head


def test_one_run_bounds_nothing(tmp_path: Path) -> None:
    found = asked(made(tmp_path, seeds=1), 50.0)
    assert found.answers[0].mark == "open" and "at most" not in found.sentences[0].text


def test_worth_is_a_late_field_that_may_change_at_any_time() -> None:
    study = Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"]))
    assert "worth" not in study.as_dict() and Study.from_dict(study.as_dict()).worth == 0
    more = dataclasses.replace(study, worth=3.0)
    assert Study.from_dict(json.loads(json.dumps(more.as_dict()))).worth == 3.0
    assert grow(more, study, "there")[0].worth == 0 and grow(study, more, "there")[0].worth == 3.0
    with pytest.raises(ConfigError, match="worth"):
        dataclasses.replace(study, worth=-1.0)


def test_it_is_an_option_of_a_sweep_and_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert given_fields(sweep.parser().parse_args(["quickstart", "--worth", "3"])) == {"worth": 3.0}
    ledger = sized.write(tmp_path, OPEN, (1.0,), tests=600, protocol=THREE, spread=0.02)
    assert report.main([str(ledger.folder.root), "--out", str(tmp_path / "r.html"), "--worth", "30", "--no-images"]) == 0
    assert "good enough" in capsys.readouterr().out
    assert report.main([str(ledger.folder.root), "--out", str(tmp_path / "r.html"), "--worth", "-3"]) == 2


def test_a_bound_that_forgets_the_other_strategies_is_seen_by_the_benchmark() -> None:
    """It checks the benchmark itself: for estimates that are exact draws, the bound fails in at most 5 %, and what it calls good enough
    is.
    """
    rng, scores = np.random.default_rng(0), np.array([0.0, 0.03001, 0.03001])

    def studies() -> list:
        out = []
        for _ in range(400):
            drawn = scores + 0.01 * rng.standard_normal(3) / 2**0.5
            out.append(([estimate(drawn[a] - drawn[b], 0.0, 0.01) for a, b in ((0, 1), (0, 2), (1, 2))], scores))
        return out

    row = measure(iter(studies()))
    assert row["too_low"] <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5 and row["false"] <= row["too_low"]


def test_a_bound_is_never_said_to_be_nothing() -> None:
    assert [DEFAULT.rounded_up(loss) for loss in (-1.0, 0.0, 0.04, 0.11, 8.3)] == [0.1, 0.1, 0.1, 0.2, 8.3]
