"""The network to use: which trained network is picked, by which rule, and where the page names it."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.findings.choose_networks import pick_all
from analysis.findings.pick import find_pick
from analysis.words.sentences import answers
from study import Results, load_study
from study.errors import ConfigError
from study.inference.softmax import pooled, softmax
from study.results import open_place
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN


def test_the_pick_is_the_confirm_run_with_the_best_validation_and_its_test_score_chose_nothing(used: Results) -> None:
    pick = used.pick()
    runs = used.trials[(used.trials.stage == "confirm") & (used.trials.cell == pick.cell.id)].set_index("trial_id")["val/macro_f1"]
    assert set(pick.trials) == set(runs.index) and pick.trial == runs.idxmax() and pick.validation == runs.max()
    own = used.frames.predictions(pick.trial)["test"]
    score = used.seeds.query("metric == 'macro_f1' and strategy == @pick.cell.strategy and seed == @pick.seed").score.iloc[0]
    assert pick.test.mean == pytest.approx(score) and pick.test.low < pick.test.mean < pick.test.high
    assert pick.calibrated is not None and own.logits.shape[1] == 10 and pick.leads and pick.reason


def test_of_several_strategies_the_verdicts_is_picked() -> None:
    found = load_study(GOLDEN / "golden")
    assert found.pick().reason == "no verdict: the best on validation" and found.pick("linear_probe").cell.strategy == "linear_probe"
    (told,) = answers_of(found)
    picks = {
        a: pick_all(found.frames, [dataclasses.replace(told, comparable=told.ranked, standing=a)]) for a in (told.ranked, told.ranked[1:])
    }
    (one,) = (p for p in picks[told.ranked[1:]] if p.leads)
    assert one.cell.strategy == told.ranked[1] and one.reason == "the verdict's"
    (open_yet,) = (p for p in picks[told.ranked] if p.leads)
    confirmed = found.trials[found.trials.stage == "confirm"]
    means = confirmed[confirmed.strategy.isin(told.ranked)].groupby("strategy")["val/macro_f1"].mean()
    assert open_yet.cell.strategy == means.idxmax() and open_yet.reason.endswith("the best on validation")


def test_of_strategies_alike_the_cheapest_is_picked() -> None:
    found = load_study(GOLDEN / "golden")
    frames = dataclasses.replace(found.frames, study=dataclasses.replace(found.frames.study, margin=99.0))
    (told,) = answers_of(found)
    (cheap,) = (p for p in pick_all(frames, [dataclasses.replace(told, comparable=told.ranked, standing=told.ranked)]) if p.leads)
    assert cheap.cell.strategy == min(told.seconds, key=told.seconds.__getitem__) and cheap.reason.endswith("the cheapest")


def answers_of(found: Results) -> list:
    from analysis.findings.comparisons import compare_all, gather_all
    from analysis.findings.verdict_pairs import judge

    return answers(judge(compare_all(gather_all(found.frames), 200).pairs, found.frames), found.strategies, found.frames)


def test_an_ensembles_gain_is_that_of_its_kept_predictions(used: Results) -> None:
    pick = used.pick("partial")
    tests = [used.frames.predictions(t)["test"] for t in pick.trials]
    mean = np.mean([softmax(p.logits) for p in tests], axis=0)
    np.testing.assert_allclose(softmax(pooled([p.logits for p in tests])), mean, atol=1e-12)
    from sklearn.metrics import f1_score

    scores = [f1_score(p.labels, p.logits.argmax(axis=1), average="macro") for p in tests]
    together = f1_score(tests[0].labels, mean.argmax(axis=1), average="macro")
    assert pick.together.test.mean == pytest.approx(together) and pick.together.gain.mean == pytest.approx(together - np.mean(scores))
    assert pick.together.gain.low < pick.together.gain.mean < pick.together.gain.high and "at 2 times the cost" in pick.gain


def test_a_cell_is_found_by_its_parts_and_two_data_sets_need_a_name(used: Results) -> None:
    picks = used.findings.picks
    one = picks[0]
    other = dataclasses.replace(one, cell=dataclasses.replace(one.cell, dataset="folder:/where/my leaves"))
    assert find_pick([*picks, other], "digits/partial").cell.strategy == "partial"
    assert find_pick([*picks, other], "my leaves") == other and find_pick(picks, one.cell.id) == one
    with pytest.raises(ConfigError, match="several data sets. Name one behind a colon, as RESULTS/STUDY:digits"):
        find_pick([*picks, other])
    with pytest.raises(ConfigError, match="'full' names 0 cells"):
        find_pick(picks, "full")


def test_a_place_may_hold_a_colon(used: Results, tmp_path: Path) -> None:
    copy = shutil.copytree(used.folder, tmp_path / "a:b" / "used")
    assert open_place(str(copy))[1] == "" and open_place(f"{copy}:digits/partial")[1] == "digits/partial"
    with pytest.raises(ConfigError, match="holds no study"):
        open_place(str(tmp_path / "nowhere:partial"))


def test_the_page_and_the_end_of_a_sweep_name_the_network(used: Results) -> None:
    text = Path(used.folder, "report.html").read_text()
    section = text[text.index('id="use-it"') :].partition("</section>")[0]
    pick = used.pick()
    assert f"trials/{pick.trial}/best" in section and f"python -m study.predict {used.folder} FOLDER --csv" in section
    assert pick.scores in section and pick.shown_settings in section and "--ensemble" in section
    facts = Ledger(Path(used.folder).parent, "used").facts()
    assert [p["trial"] for p in facts["picks"]] == [pick.trial] and facts["picks"][0]["temperature"] == pick.temperature


def test_a_study_whose_networks_are_elsewhere_gives_no_commands(tmp_path: Path) -> None:
    from analysis.report import write_report

    summary = write_report(str(GOLDEN / "golden"), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert (
        "it lies where the study ran, not here" in text
        and "study.predict" not in text
        and not any("study.predict" in u for u in summary.use)
    )
