"""Studies drawn from banks of trainings: made-up arrays here, real trainings in `python -m benchmarks.bank`."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.data.question import Question
from analysis.findings.comparisons import Gathered, Tables, compare_strategies
from benchmarks import trainings, verdict
from benchmarks.bank import CONFIRMED, Drawn, Tuning, confirm, real_cases, spread, usable
from benchmarks.trainings import Bank, fill, load_banks
from benchmarks.worlds import Sample

DEFAULT, RANDOM = Tuning(trials=3, default=True), Tuning(trials=3, default=False)


def made_up(configs: int = 7, seeds: int = 11, images: int = 60, better: float = 0.0, seed: int = 0) -> Bank:
    """Return a bank where configurations differ, seeds differ less, and validation and test agree on which is good."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    level = 0.5 + better + 0.2 * rng.random((configs, 1)) + 0.05 * rng.random((configs, seeds))
    right = rng.random((configs, seeds, images)) < level[..., None]
    return Bank(val=level, predicted=np.where(right, labels, (labels + 1) % 3), labels=labels)


@pytest.mark.parametrize("searches", [1, 5])
def test_no_seed_searched_is_confirmed_and_two_halves_share_none(searches: int) -> None:
    bank, other = made_up(), made_up(seed=1)
    for study in range(50):
        a, b = Drawn(banks=(bank, bank), tuning=DEFAULT, anew=False).sides(study, searches, CONFIRMED // searches)
        for side in (a, b):
            assert len(set(side.seed)) == len(side.config) == CONFIRMED and len(set(side.searched)) == searches
            assert not set(side.seed) & set(side.searched)
            assert list(side.search) == [k % searches for k in range(CONFIRMED)]
        assert not set(a.seed) & set(b.seed)
        a, b = Drawn(banks=(bank, other), tuning=DEFAULT, anew=False).sides(study, searches, CONFIRMED // searches)
        assert list(a.seed) == list(b.seed)  # as a study confirms its strategies


def test_a_search_chooses_by_validation_at_its_own_seed() -> None:
    val = np.zeros((4, 11))
    val[2], val[3, 4] = 0.5, 0.9  # the last one is good with one seed alone
    bank = Bank(val=val, predicted=np.zeros((4, 11, 6), int), labels=np.arange(6) % 2)
    for study in range(60):
        side = confirm(bank, Tuning(trials=4, default=True), 1, np.arange(5, 10), np.random.default_rng(study))
        assert set(side.config) == ({3} if side.searched[0] == 4 else {2})


@pytest.mark.parametrize("tuning", [DEFAULT, RANDOM, Tuning(trials=1, default=True), Tuning(trials=1, default=False)])
def test_the_chances_are_those_of_the_draws(tuning: Tuning) -> None:
    val, rng = np.array([0.3, 0.1, 0.5, 0.2, -np.inf]), np.random.default_rng(0)
    won = np.bincount([tuning.draw(val, rng) for _ in range(4000)], minlength=5) / 4000
    assert tuning.chances(val) == pytest.approx(won, abs=0.04) and tuning.chances(val).sum() == pytest.approx(1)


def test_the_truth_is_what_drawn_runs_score_on_average() -> None:
    bank = made_up()
    world = Drawn(banks=(bank, bank), tuning=RANDOM, anew=False)
    drawn = [verdict.all_runs(world.draw(s, 5, 1), np.random.default_rng(0))[0].scores.mean() for s in range(300)]
    assert np.mean(drawn) == pytest.approx(spread(bank, RANDOM)["mean"], abs=4 * np.std(drawn) / math.sqrt(300))
    assert world.scores(0)[0] == world.scores(0)[1] == spread(bank, RANDOM)["mean"]


def test_drawn_studies_are_compared_as_a_report_compares_them() -> None:
    world = Drawn(banks=(made_up(), made_up(seed=1)), tuning=DEFAULT, anew=False)
    sample = world.draw(3, 5, 1)
    tables = Tables()
    compare_strategies(gathered(sample), 150, tables)
    (ours,), (theirs,) = verdict.compared(verdict.all_runs(sample, np.random.default_rng(0))), tables.pairs
    assert ours.mean == pytest.approx(theirs.estimate.mean) and ours.unit == theirs.estimate.unit == "search"
    assert ours.runs == theirs.estimate.runs
    assert ours.images.variance == pytest.approx(theirs.estimate.images.variance, rel=0.5)  # other resamples


def gathered(sample: Sample) -> Gathered:
    (split,) = sample.splits
    n = len(split.labels)
    question = Question.of({"dataset": "d", "splits": "official", "backbone": "b", "train_fraction": 1.0})
    said = {name: dict(enumerate(own)) for name, own in zip(("linear_probe", "full"), split.predicted, strict=True)}
    searches = {k: int(r) for k, r in enumerate(sample.search)}
    return Gathered(
        question=question,
        images=np.arange(n),
        labels=split.labels,
        groups=None,
        fold=np.zeros(n, int),
        searches=searches,
        predicted=said,
    )


def test_new_images_are_new_in_every_study_and_the_same_for_both() -> None:
    world = Drawn(banks=(made_up(), made_up(seed=1)), tuning=DEFAULT, anew=True)
    first, second = world.draw(0, 5, 1).splits[0], world.draw(1, 5, 1).splits[0]
    assert not np.array_equal(first.labels, second.labels)
    assert all(p.shape == (5, 60) for p in first.predicted)


def test_what_is_not_trained_yet_and_what_diverged_is_left_out() -> None:
    bank = made_up()
    val = bank.val.copy()
    val[5:, 9:] = np.nan  # trained with nine seeds
    val[2, 3] = -np.inf
    whole = Bank(val=val, predicted=bank.predicted, labels=bank.labels).whole()
    assert whole.val.shape == (6, 9) and np.isfinite(whole.val).all()
    assert not usable({"d/s": replace(bank, val=val)})  # two halves of five are ten


def test_strategies_meet_themselves_and_others_of_their_data_set() -> None:
    banks = usable({"d/s": made_up(), "d/t": made_up(seed=1), "e/s": made_up(seed=2)})
    assert {c.name.partition(",")[0] for c in real_cases(banks)} == {"d/s twice", "d/t twice", "e/s twice", "d/s - t"}


def test_a_bank_is_filled_up_where_it_was_left(monkeypatch, tmp_path: Path) -> None:
    trained: list[tuple[float, int]] = []

    def train(config, data, cache):
        trained.append((config.strategy.lr, config.seed))
        logits = np.eye(3)[np.full(4, config.seed % 3)]
        return (-np.inf, None, None) if config.seed == 1 else (config.seed / 10, logits, np.arange(4) % 3)

    monkeypatch.setattr(trainings, "train", train)
    path = tmp_path / "bank.npz"
    assert len([*fill(path, {"deepweeds/partial": (3, 2)}, "data")]) == 6
    assert len([*fill(path, {"deepweeds/partial": (3, 4), "deepweeds/linear_probe": (1, 1)}, "data")]) == 7
    assert len(set(trained)) == len(trained) == 13 and not [*fill(path, {"deepweeds/partial": (2, 3)}, "data")]
    banks = load_banks(path)
    bank = banks["deepweeds/partial"]
    assert bank.val == pytest.approx(np.tile([0, -np.inf, 0.2, 0.3], (3, 1))) and banks["deepweeds/linear_probe"].val.shape == (1, 1)
    assert (bank.predicted[:, 2] == 2).all() and list(bank.labels) == [0, 1, 2, 0]
    monkeypatch.setattr(
        trainings, "bank_study", lambda d: replace(study := trainings.PILOT, protocol=replace(study.protocol, precision="fp32"))
    )
    with pytest.raises(SystemExit, match="another protocol"):
        next(iter(fill(path, {"deepweeds/partial": (3, 5)}, "data")))
