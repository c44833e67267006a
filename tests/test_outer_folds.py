"""Studies whose searches own a fold each: the settings that are refused, and the images that each of their trials sees."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from study.canonical import canonical
from study.conduct.checks import open_tables
from study.conduct.lines import line_asks
from study.conduct.outer_folds import check_outer_folds
from study.datasets import open_dataset, outer_folds
from study.datasets.outer_folds import worth_folding
from study.datasets.spec import TEST, TRAIN, VAL
from study.errors import ConfigError, DataError
from study.question.cell import grid
from study.question.growth import grow
from study.question.naming import DataName
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.search.confirmed import planned
from study.search.optuna_cells import SearchPlan
from study.storage.places import find_places
from study.tracking.ledger import Ledger
from tests.test_folds import images
from tests.test_several import as_list, pictures


def asked(name: str = "mini_weeds", **values) -> Study:
    given = {"folds": 5, "searches": 5, "trials": 10, "random_trials": 5, "confirm_seeds": 5, "budget_check": 0, "grace_epochs": 1}
    given["cells"] = grid([name], ["efficientnet_lite0"], ["linear_probe", "partial"])
    return Study(name="f", protocol=Protocol(max_epochs=1, warmup_epochs=0, image_size=32), **{**given, **values})


REFUSED = {
    "searches": (
        dict(searches=4, trials=8),
        "searches 4 must be folds 5 or a multiple.*Choose 5 or 10.*searches=10, trials=10, confirm_seeds=10",
    ),
    "more searches": (dict(searches=7, trials=14, confirm_seeds=7), "searches 7 must be folds 5.*Choose 5 or 10"),
    "seeds": (dict(confirm_seeds=10), "confirm_seeds 10 must be searches 5.*predicts its own fold once"),
    "budget_check": (dict(budget_check=3), "budget_check 3 decides .* test images of another fold.*Set budget_check=0"),
    "a fold by name": (dict(cells=grid(["mini_weeds@official:2"], ["efficientnet_lite0"], ["full"])), "official:2 names one fold"),
    "no fold": (dict(folds=0), "folds must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_where_it_is_written(name: str) -> None:
    values, why = REFUSED[name]
    with pytest.raises(ConfigError, match=why) as refused:
        asked(**values)
    assert "\n" not in str(refused.value)
    assert asked().folds == 5 and asked(searches=10, confirm_seeds=10).folds == 5 and asked(confirm_seeds=0).folds == 5


def test_a_study_without_folds_is_written_as_it_was() -> None:
    assert "folds" not in canonical(asked(folds=1)) and canonical(asked())["folds"] == 5
    assert Study.from_dict(asked().as_dict()) == asked()


def test_each_search_sees_its_own_fold_and_its_winner_predicts_that_one(tmp_path: Path) -> None:
    study = asked(searches=10, confirm_seeds=10)
    plan, seen = SearchPlan(study, Ledger(tmp_path, "f")), {}
    while (ask := plan.ask()) is not None:
        config = TrialConfig.from_dict(ask.config)
        assert ask.cell in {c.id for c in study.cells} and config.cell.split_protocol == "official"
        seen.setdefault((ask.cell, ask.number % 10), config)
    own = {r: f"official:{r % 5}{'+1' * (r > 4)}" for r in range(10)}  # the second search of a fold has other validation images
    assert {(number, c.cell.splits) for (_, number), c in seen.items()} == set(own.items())
    winners = {cell.id: [seen[cell.id, r] for r in range(10)] for cell in study.cells}
    runs = list(planned(study, winners, {}))
    assert len(runs) == 20 and {(n, c.cell.splits) for _, n, c in runs} == set(own.items())
    assert len({c.id for _, _, c in runs} | {c.id for c in seen.values()}) == 20 + len(seen)
    solved = [TrialConfig.from_dict(a.config).cell.splits for a in line_asks(study, [])]
    assert sorted(solved) == sorted([*own.values()] * (len(solved) // 10)) and solved


def test_a_study_without_folds_asks_for_the_trials_it_asked_for(tmp_path: Path) -> None:
    study = asked(folds=1)
    plan = SearchPlan(study, Ledger(tmp_path, "f"))
    configs = [TrialConfig.from_dict(ask.config) for ask in iter(plan.ask, None)]
    assert {c.cell.splits for c in configs} == {"official"}


def test_every_image_is_a_test_image_once_and_never_seen_by_its_search() -> None:
    study = asked("digits", searches=20, trials=20, confirm_seeds=20)
    check_outer_folds(study, {("digits", "official"): open_dataset("digits")})
    tables = [open_dataset("digits", splits=study.cell_of(study.cells[0], r).splits) for r in range(20)]
    assert (np.sum([t.split == TEST for t in tables], axis=0) == 4).all()
    assert all(((t.split == TRAIN) | (t.split == VAL) | (t.split == TEST)).all() for t in tables)
    assert (np.sum([t.split == VAL for t in tables[::5]], axis=0) == (tables[0].split != TEST)).all(), (
        "its searches validate on each other fold once"
    )


@pytest.mark.parametrize("splits", ["official:5", "official:2+4", "official:2+x", "official:+1", "official:2+"])
def test_a_fold_that_is_not_there_is_refused(splits: str) -> None:
    with pytest.raises(ConfigError, match="fold"):
        open_dataset("digits", splits=splits)


def test_a_given_test_split_is_kept(tmp_path: Path) -> None:
    name, places = images(tmp_path / "own", "folder", ("train", "test")), find_places(str(tmp_path))
    with pytest.raises(ConfigError, match="has one test split, which is given and is kept.*Leave folds out"):
        open_tables(asked(name), places)
    with pytest.raises(ConfigError, match="is cut into 5 folds.*Set folds=5"):
        open_tables(asked(images(tmp_path / "two", "folder", ()), folds=2, searches=2, confirm_seeds=2), places)


def test_sessions_that_lie_in_several_folds_are_refused(tmp_path: Path) -> None:
    """The published folds of field photographs leave them so."""
    with pytest.raises(DataError, match=r"mini_weeds: \d+ groups have images in more than one fold.*or leave folds out"):
        open_tables(asked("mini_weeds"), find_places(str(tmp_path)))


@pytest.mark.parametrize("large", [False, True])
def test_a_group_larger_than_a_fold_is_refused(large: bool, tmp_path: Path) -> None:
    name = images(tmp_path / "own", "folder", ())
    files = [f"./{c}/{k}.png".removeprefix("./") for c in ("ash", "oak") for k in range(20)]
    groups = [k if not large or k > 8 else 0 for k in range(40)]
    (tmp_path / "own" / "groups.csv").write_text("file,group\n" + "".join(f"{f},g{g}\n" for f, g in zip(files, groups, strict=True)))
    if not large:
        check_outer_folds(asked(name), {(name, "official"): open_dataset(name)})
        return
    with pytest.raises(DataError, match="one group holds 9 of 40 images, more than one of 5 folds"):
        open_tables(asked(name), find_places(str(tmp_path)))


def test_a_class_of_fewer_images_than_folds_is_refused() -> None:
    """The readers refuse it in own folders, but a catalogue's set may have one."""
    table = open_dataset("digits")
    labels = table.labels.copy()
    labels[np.flatnonzero(labels == 3)[4:]] = 4
    tables = {("digits", "official"): dataclasses.replace(table, labels=labels)}
    with pytest.raises(DataError, match=r"digits: too few images to have one in each of 5 folds: 3 \(4\)"):
        check_outer_folds(asked("digits"), tables)
    check_outer_folds(asked("digits"), {("digits", "official"): table})
    check_outer_folds(asked("digits", folds=1), tables)


def test_images_are_worth_folding_where_few_are_tested_and_the_cut_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = images(tmp_path / "few", "folder", ())
    given = images(tmp_path / "given", "folder", ("train", "test"))
    validated = images(tmp_path / "validated", "folder", ("train", "val"))

    def found(name: str) -> int:
        return worth_folding(DataName.parse(name), open_dataset(name), None)

    assert found(few) == 5 and found(given) == found(validated) == 1
    assert found("digits") == 5, "1,797 images"
    monkeypatch.setattr(outer_folds, "MANY_IMAGES", 1000)
    assert found("digits") == 1, "35 and more test images of each class"
    monkeypatch.setattr(outer_folds, "MANY_TESTED", 50)
    assert found("digits") == 5
    assert found("mini_weeds") == 1, "its published folds part sessions"
    several = as_list(tmp_path, pictures(tmp_path, 150))
    monkeypatch.setattr(outer_folds, "MANY_IMAGES", 160)
    monkeypatch.setattr(outer_folds, "MANY_TESTED", 1)
    assert sum(map(sum, open_dataset(several).counts().values())) > 160 and found(several) == 5, "images count, not their labels"


def test_another_pass_changes_no_trial_of_those_before(tmp_path: Path) -> None:
    """Two passes ask for every trial of one pass, under the same number and id. The second pass has searches of its own."""
    asks = {}
    for passes in (1, 2):
        study = asked(trials=10 * passes, random_trials=5 * passes, searches=5 * passes, confirm_seeds=5 * passes)
        plan = SearchPlan(study, Ledger(tmp_path, f"f{passes}"))
        asks[passes] = {(a.cell, a.number): a.trial_id for a in iter(plan.ask, None)}
        assert len(set(asks[passes].values())) == len(asks[passes]) == 20 * passes
        for _, number in asks[passes]:
            search, nth = study.place_of(number)
            assert study.number_of(search, nth) == number and (search, nth) in {(r, n) for r in range(5 * passes) for n in (0, 1)}
    assert asks[1].items() <= asks[2].items()


def test_a_study_by_folds_grows_by_whole_passes() -> None:
    one, two = asked(), asked(searches=10, trials=20, random_trials=10, confirm_seeds=10)
    grown, changes = grow(one, two, "here")
    assert grown.searches == 10 and {c.field for c in changes} == {"searches", "trials", "random_trials", "confirm_seeds"}
    assert grow(one, asked(trials=15), "here")[0].trials == 15, "of one pass, more trials of each search"
    for part in (dict(searches=10, trials=10, confirm_seeds=10), dict(searches=10, trials=20, confirm_seeds=10)):
        with pytest.raises(ConfigError, match="whole passes.*--searches 10 --trials 20 --confirm-seeds 10 --set random_trials=10"):
            grow(one, asked(**part), "here")
    with pytest.raises(ConfigError, match="whole passes.*--searches 15 --trials 30"):
        grow(two, dataclasses.replace(two, trials=40), "here")
    with pytest.raises(ConfigError, match="searches: 1 -> 5"):
        grow(asked(folds=1, searches=1), asked(folds=1), "here")
