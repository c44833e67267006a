"""Collapsed runs, told apart from searches that found poor settings, and classes too small to decide on."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.data.question import Question
from analysis.findings.comparisons import Compared, gather_all
from analysis.findings.small_classes import small_classes
from analysis.findings.verdict_pairs import judge
from analysis.load import load
from analysis.statistics.collapse import Collapse, collapse_reason, count_collapses, robust_sd
from analysis.statistics.intervals import Estimate, Part
from analysis.statistics.own_search import over_search
from analysis.verdict import findings
from analysis.words.sentences import answers, sentences
from analysis.words.warnings import warnings
from benchmarks.verdict_rules import rule_before, rules_now
from benchmarks.worlds import Latent
from study.records import OBJECTIVE
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN, widened

TEST = [np.array([0.50, 0.52, 0.51, 0.30, 0.49]), np.array([0.52, 0.51, 0.50, 0.52, 0.53])]
OVER = [np.array([-0.01, 0.02, 0.0, -0.21, 0.01]), np.array([0.0, -0.02, 0.01, 0.02, 0.0])]


def which(scores, over, searches: int = 5) -> list[tuple[bool, ...]]:
    return [c.which for c in count_collapses(scores, over, searches)]


def test_a_run_far_below_the_others_and_below_its_own_search_collapsed() -> None:
    a, b = count_collapses(TEST, OVER, 5)
    assert a.which == (False, False, False, True, False) and (a.collapsed, a.runs, a.median) == (1, 5, 0.50)
    assert b.collapsed == 0 and b.at_most == pytest.approx(1 - 0.05 ** (1 / 5))
    assert a.at_most == pytest.approx(stats.binomtest(1, 5, alternative="less").proportion_ci(0.95).high)
    assert "1 of 5 runs collapsed" in str(collapse_reason(b, a)) and collapse_reason(b, b) is None
    often = Collapse(which=a.which * 2, at_most=0.5, median=0.5)
    assert collapse_reason(often, b) is None, "ten runs are enough"


def test_one_search_asks_for_more_since_validation_tells_nearly_the_same() -> None:
    seen = set()
    other = 2 * TEST[1]
    for drop in np.linspace(0.05, 0.15, 41):
        low = np.array([0.50, 0.54, 0.48, 0.50 - drop, 0.52])
        sds = drop / robust_sd([low, other])
        found = which([low, other], [low, other], searches=1)[0][3]
        assert found is bool(sds > 2.5 and drop > 0.05)
        seen.add((found, which([low, other], [low, other])[0][3]))
    assert (False, True) in seen and (True, True) in seen


def test_a_search_that_found_poor_settings_is_no_collapse() -> None:
    """It is as low on test as when it won its search, so the run did what its settings do."""
    assert which(TEST, [np.array([-0.01, 0.02, 0.0, 0.01, 0.01]), OVER[1]])[0] == (False,) * 5


def test_a_run_that_fell_on_validation_alone_is_no_collapse() -> None:
    level = np.array([0.50, 0.52, 0.51, 0.50, 0.49])
    assert which([level, TEST[1]], OVER)[0] == (False,) * 5


def test_what_is_within_five_points_has_not_collapsed_however_alike_the_others_are() -> None:
    close = np.array([0.5, 0.5, 0.501, 0.452, 0.499])
    assert which([close, TEST[1]], [close - 0.5, OVER[1]])[0] == (False,) * 5
    assert which([close - [0, 0, 0, 0.01, 0], TEST[1]], [close - [0, 0, 0, 0.01, 0] - 0.5, OVER[1]])[0][3]


def test_where_the_search_is_not_known_the_test_score_is_judged_alone_and_more_strictly() -> None:
    unknown = [np.full(5, math.nan)] * 2
    assert which(TEST, unknown)[0][3]
    seen = set()
    for drop in np.linspace(0.04, 0.12, 17):
        low = np.array([0.50, 0.52, 0.49, 0.50 - drop, 0.51])
        sds = drop / robust_sd([low, TEST[1]])
        assert which([low, TEST[1]], unknown)[0][3] is bool(sds > 3 and drop > 0.05)
        seen.add((which([low, TEST[1]], unknown)[0][3], sds > 2))
    assert seen >= {(False, True), (True, True)}, "two standard deviations are too few alone"
    one_known = [np.array([math.nan, math.nan, math.nan, -0.3, math.nan]), OVER[1]]
    assert which(TEST, one_known) == which(TEST, unknown), "one run has nothing to be held against"
    some = [np.array([-0.01, 0.02, math.nan, -0.21, 0.01]), OVER[1]]
    assert which(TEST, some) == which(TEST, OVER)


def test_a_strategy_without_chance_never_collapses_and_says_nothing_of_how_far_runs_differ() -> None:
    exact = np.array([0.20])
    assert robust_sd([*TEST, exact, np.full(5, 0.7)]) == robust_sd(TEST)
    *same, alone, alike = which([*TEST, exact, np.full(5, 0.7)], [*OVER, np.array([math.nan]), np.full(5, math.nan)])
    assert same == which(TEST, OVER) and alone == (False,) and alike == (False,) * 5
    assert robust_sd([exact]) == robust_sd([]) == 0.0


def test_the_robust_sd_is_that_of_normal_runs_and_borne_by_the_rest() -> None:
    rng = np.random.default_rng(0)
    found = [robust_sd([rng.normal(m, 0.03, 5) for m in (0.3, 0.5, 0.7)]) for _ in range(3000)]
    assert np.mean(found) == pytest.approx(0.03, rel=0.06)
    fallen = [robust_sd([rng.normal(m, 0.03, 5) - [0.5 * (m == 0.3), 0, 0, 0, 0] for m in (0.3, 0.5, 0.7)]) for _ in range(3000)]
    assert np.mean(fallen) < 1.4 * 0.03


shares = st.floats(0, 1).map(lambda v: round(v, 4))


@st.composite
def questions(draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw one to four strategies with one to twelve runs."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    rows = [np.array(draw(st.lists(shares, min_size=k, max_size=k))) for k in sizes]
    over = [np.array(draw(st.lists(shares | st.just(math.nan), min_size=k, max_size=k))) for k in sizes]
    return rows, over


@settings(max_examples=200, deadline=None)
@given(questions(), shares, st.integers(1, 12))
def test_runs_all_alike_never_collapse(question, score: float, runs: int) -> None:
    rows, over = question
    assert which([*rows, np.full(runs, score)], [*over, np.linspace(-1, 1, runs)])[-1] == (False,) * runs
    assert which([*rows, np.linspace(0, 1, runs)], [*over, np.full(runs, score)])[-1] == (False,) * runs


@settings(max_examples=200, deadline=None)
@given(questions(), st.integers(-8, 8))
def test_what_moves_all_runs_beside_their_searches_alike_changes_nothing(question, shift: int) -> None:
    """Such are a longer schedule, more pixels, or another kept epoch. Powers of two add without rounding."""
    rows, over = question
    over = [np.round(r * 2**20) / 2**20 for r in over]
    assert which(rows, [r + shift / 4 for r in over]) == which(rows, over)


@settings(max_examples=200, deadline=None)
@given(questions(), st.randoms(use_true_random=False))
def test_the_order_of_runs_and_strategies_does_not_matter(question, random) -> None:
    rows, over = question
    orders = [random.sample(range(len(r)), len(r)) for r in rows]
    once = which(rows, over)
    again = which([r[o] for r, o in zip(rows, orders, strict=True)], [r[o] for r, o in zip(over, orders, strict=True)])
    assert again == [tuple(w[k] for k in o) for w, o in zip(once, orders, strict=True)]
    assert which(rows[::-1], over[::-1]) == once[::-1]


@settings(max_examples=200, deadline=None)
@given(questions())
def test_only_what_is_below_in_both_collapses_where_both_are_known(question) -> None:
    rows, over = question
    for own, r, found in zip(rows, over, which(rows, over), strict=True):
        for k in np.flatnonzero(found):
            assert own[k] < np.median(own) - 0.05
            assert math.isnan(r[k]) or np.isfinite(r).sum() < 2 or r[k] < np.nanmedian(r) - 0.05


# ---- beside their searches --------------------------------------------------------------------------------


def expected(frames, strategy: str) -> dict[int, float]:
    """Compute it by hand: the golden study has one search per cell."""
    t, e = frames.trials, frames.epochs
    winner = next(frames.chosen[c] for c in frames.chosen if f"/{strategy}/" in c)
    won = t[t.trial_id == winner][OBJECTIVE].item()
    runs = t[(t.stage == "confirm") & (t.strategy == strategy)]
    return {
        int(r.seed): e[(e.trial_id == r.trial_id) & (e.epoch == r.epochs)][OBJECTIVE].item() - won
        for r in runs.itertuples()
    }  # fmt: skip


def test_a_run_is_held_against_the_search_that_chose_its_settings() -> None:
    frames = load(GOLDEN.as_posix())
    found = over_search(frames, frames.confirmed())
    assert set(found) == {"linear_probe", "partial"}
    for strategy, own in found.items():
        assert own == pytest.approx(expected(frames, strategy))


def test_the_last_epoch_counts_whichever_was_kept() -> None:
    frames = load(GOLDEN.as_posix())
    first = frames.confirmed().trial_id.iloc[0]
    shuffled = frames.epochs.sample(frac=1, random_state=0)
    better = shuffled.assign(**{OBJECTIVE: shuffled[OBJECTIVE].where((shuffled.trial_id != first) | (shuffled.epoch != 1), 0.999)})
    found = over_search(dataclasses.replace(frames, epochs=better), frames.confirmed())
    assert found == over_search(frames, frames.confirmed())


def test_one_searchs_missing_score_tells_no_run_from_another_and_several_searches_do(copy: Ledger) -> None:
    frames = load(copy)
    lost = dataclasses.replace(frames, trials=frames.trials[frames.trials.stage != "search"])
    runs = frames.confirmed()
    for strategy, own in over_search(lost, runs).items():
        known = over_search(frames, runs)[strategy]
        assert np.ptp([own[s] - known[s] for s in own]) == pytest.approx(0, abs=1e-12)
    repeated = dataclasses.replace(lost, study=dataclasses.replace(frames.study, searches=2), confirmed_trials={
        cell: [trial, "gone"] for cell, trial in frames.chosen.items()
    })  # fmt: skip
    assert all(math.isnan(v) for own in over_search(repeated, runs).values() for v in own.values())


def test_a_run_without_epochs_is_not_known() -> None:
    frames = load(GOLDEN.as_posix())
    runs = frames.confirmed()
    gone = runs.iloc[0]
    found = over_search(dataclasses.replace(frames, epochs=frames.epochs[frames.epochs.trial_id != gone.trial_id]), runs)
    assert [(s, seed) for s, own in found.items() for seed, v in own.items() if math.isnan(v)] == [(gone.strategy, gone.seed)]
    none = over_search(dataclasses.replace(frames, epochs=pd.DataFrame()), runs)
    assert all(math.isnan(v) for own in none.values() for v in own.values())


def test_gathered_runs_carry_what_they_did_beside_their_searches() -> None:
    frames = load(GOLDEN.as_posix())
    (gathered,) = gather_all(frames)
    assert gathered.over_search == over_search(frames, frames.confirmed())
    assert list(gathered.classes) == [str(k) for k in range(10)]


# ---- small classes ----------------------------------------------------------------------------------------


def test_more_than_one_small_class_is_named_with_its_images() -> None:
    labels = np.repeat([0, 1, 2, 4], [30, 6, 4, 12])  # none of class 3
    said = small_classes(labels, ["elm", "oak", "ash", "fir", "yew"])
    assert said == "2 of 4 classes have fewer than 10 test images (ash: 4, oak: 6): macro-F1 cannot be decided on them"
    assert small_classes(labels) == said.replace("ash", "2").replace("oak", "1")
    assert small_classes(np.repeat([0, 1], [30, 9])) == "" == small_classes(np.repeat([0, 1, 2], 10)), "one small class is borne"
    many = small_classes(np.repeat(range(7), [50, 3, 3, 3, 4, 5, 9]), [f"c{k}\n" for k in range(7)])
    assert "(c1\\n: 3, c2\\n: 3, c3\\n: 3, c4\\n: 4, and 2 more)" in many


def test_images_of_all_folds_count() -> None:
    labels = np.repeat([0, 1, 2], [40, 6, 7])
    assert small_classes(labels) and not small_classes(np.concatenate([labels, labels]))


SMALL = "2 of 4 classes have fewer than 10 test images (ash: 4, oak: 6): macro-F1 cannot be decided on them"


@pytest.mark.parametrize(("points", "sd"), [(12.0, 1.0), (0.5, 0.2), (0.0, 0.2), (2.0, 4.0)])
@pytest.mark.parametrize("collapses", [(), ("of full, 1 of 5 runs collapsed (up to 66% may); 10 runs are needed",)])
def test_nobody_wins_on_small_classes_and_what_to_do_is_said(points: float, sd: float, collapses: tuple[str, ...]) -> None:
    frames = load(GOLDEN.as_posix())
    question = Question(dataset="made_up", splits="official", backbone="resnet18", train_fraction=1.0)
    part = Part(variance=(sd / 100) ** 2 / 5, df=4, count=5)
    images = Part(variance=1e-6, df=99, count=100)
    estimate = Estimate(mean=points / 100, runs=(part, part), images=images, unit="run", searches=1, resampled=100)
    (pair,) = judge(
        [Compared(question=question, a="partial", b="full", estimate=estimate, seeds=5, collapses=collapses, small_classes=SMALL)], frames
    )
    assert (pair.decision.kind, pair.winner, pair.decision.reasons) == ("not_comparable", None, (SMALL, *collapses))
    means = pd.DataFrame(
        [{**question.columns, "strategy": s, "metric": "macro_f1", "mean": m} for s, m in (("partial", 0.6), ("full", 0.5))]
    )
    (found,) = sentences(answers([pair], means, frames), frames)
    assert (found.mark, found.head) == ("open", f"Not comparable: {SMALL}")
    assert found.steps[0].text == "Collect more test images of these classes, or merge them" and not found.steps[0].command
    assert ("A collapsed run" in found.text) == bool(collapses)
    assert found.steps[-1].text.startswith("Until then name no winner") and "take" not in found.text.split(SMALL)[1].lower()
    (answer,) = answers([pair], means, frames)
    assert answer.reasons == [SMALL, *collapses]
    (warning,) = [w for w in warnings(frames, [pair]) if "too narrow" in w]
    assert "intervals of macro-F1 are too narrow, since 2 of 4 classes have fewer than 10 test images. Those of accuracy hold" in warning


def test_the_golden_studys_classes_are_large_enough(copy: Ledger) -> None:
    found = findings(load(widened(copy)), 50)
    assert not any("test images (" in w for w in found.warnings) and found.pairs.verdict[0] != "not_comparable"


# ---- simulated --------------------------------------------------------------------------------------------


def test_simulated_runs_beside_their_searches_show_collapses_and_not_the_searchs_luck() -> None:
    world = Latent(points=(0.0, 0.0), tail=0.5, collapse=(0.3, 0.0))
    drawn = [world.searched(s, 5, 2) for s in range(30)]
    over = np.array([s.over_search for s in drawn])  # [S, 2, K]
    lost = np.array([s.lost for s in drawn])
    assert over[lost].mean() < over[~lost].mean() - 0.1 and not lost[:, 1].any() and 0.2 < lost[:, 0].mean() < 0.4
    between = over[:, 1].reshape(30, 2, 5).mean(axis=1).std(axis=1).mean()  # of searches with a poor tail of 6.5 points
    assert between < 0.065 and np.array_equal(over[3], np.array(world.searched(3, 5, 2).over_search))


def test_the_rule_bars_less_and_finds_as_much_as_the_one_before() -> None:
    from benchmarks import verdict

    world = Latent(points=(0.0,) * 3, tail=0.28, collapse=(0.15, 0.0, 0.0))
    barred, found = ([], []), ([], [])
    for study in range(40):
        sample, searched = world.draw(study, 5, 1, 200), world.searched(study, 5, 1)
        runs = verdict.all_runs(sample, np.random.default_rng(study))
        for k, ruled in enumerate((rules_now(runs, searched.over_search, sample.splits), rule_before(runs))):
            barred[k].extend(ruled.barred(searched.lost))
            found[k].extend(ruled.found(searched.lost))
    assert np.mean(barred[0]) < 0.1 < np.mean(barred[1]) and np.mean(found[0]) >= np.mean(found[1]) - 0.05
