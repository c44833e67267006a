"""The hours that are left when a search has ended: they are spent before the test set is opened, on what the user left to the study."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from analysis.verdict import findings
from study.budget.bought import choose, not_asked, with_about
from study.budget.ladder import MOST_SEEDS
from study.budget.leftover import FEWEST_SEEDS, SPARE, Leftover, Sofar
from study.budget.machine import cut_place
from study.budget.price import cost_of, run_seconds
from study.conduct.pipeline import conduct
from study.conduct.so_far import covered
from study.console.signals import Interrupted
from study.errors import ConfigError
from study.question.growth import compare, grow
from study.question.studies import find_study
from study.question.study_config import Study
from study.records import Origin
from study.storage.options import Options
from study.strategies import Full, Partial, Strategy
from study.tracking.ledger import Ledger
from tests import tiny
from tests.test_mine import a_ladder, machine, pictures, strategies

SPEEDS = [0.2, 0.5, 1, 2, 5]


@functools.cache
def chosen(hours: float, given: frozenset[str] = frozenset(), **ladder: Any) -> tuple[Leftover, Study]:
    own, m = pictures(800, 160), machine()
    choice = choose(a_ladder(own, **ladder), m, hours)
    return Leftover(choice=choice, pictures=tuple(own), machine=m, given=given), with_about(choice.study, choice, 2)


def after_search(of: Leftover, study: Study, slower: float, hours: float) -> tuple[Study, float, float]:
    """Return (the grown study, when its search had ended, when all would end). Time 0 is the command's start."""
    cost = cost_of(study, of.pictures, of.machine)
    now = slower * (0.6 * cost.start + cost.line + cost.search)
    grown = of.fitted(study, Sofar(now=now, seconds=slower * cost.search), 3600 * hours)
    wider = cost_of(grown, of.pictures, of.machine)
    if grown.budget_check:  # seeds are bought after it
        trained = slower * (wider.search + wider.confirm + wider.check + wider.longer)
        sofar = Sofar(now=now + trained - slower * cost.search, seconds=trained, trained=True, lengthened=wider.longer > 0)
        grown = of.fitted(grown, sofar, 3600 * hours)
        wider = cost_of(grown, of.pictures, of.machine)
    return grown, now, now + slower * (wider.search - cost.search + wider.confirm + wider.tested + wider.check + wider.longer)


@pytest.mark.parametrize("slower", SPEEDS)
@pytest.mark.parametrize("hours", [0.25, 0.5, 1, 3, 10])
def test_what_is_left_is_spent_and_no_more(slower: float, hours: float) -> None:
    of, study = chosen(hours)
    grown, now, ends = after_search(of, study, slower, hours)
    planned = now + slower * sum(
        getattr(cost_of(study, of.pictures, of.machine), part) for part in ("confirm", "tested", "check", "longer")
    )
    assert ends <= max(planned, (1 - SPARE) * 3600 * hours), "a study that is late already grows by nothing"
    delivered = ends + of.delivery(grown, cost_of(grown, of.pictures, of.machine), slower, Sofar(now=now, seconds=now))
    if slower <= 1:
        assert 0.8 * 3600 * hours <= delivered <= 3600 * hours or grown.confirm_seeds >= MOST_SEEDS
    elif delivered > 3600 * hours:
        assert (grown.confirm_seeds, grown.budget_check, grown.confirm_size) == (max(FEWEST_SEEDS, study.searches), 0, 0)
    if slower < 1:
        assert grown.confirm_seeds >= study.confirm_seeds and grown.confirm_size == study.confirm_size
    assert dataclasses.replace(grown, about="") != dataclasses.replace(study, about="") or grown is study


def test_what_does_not_fit_any_more_is_given_up_the_least_missed_first() -> None:
    """The slower the search was than priced, the more is given up: seeds, then the budget check, then pixels, and nothing that was
    searched.
    """
    of, study = chosen(3)
    assert (study.confirm_seeds, study.budget_check, study.confirm_size) == (5, 3, 224)
    late = [after_search(of, study, slower, 3)[0] for slower in (1, 1.2, 2, 3, 5)]
    kept = [(s.budget_check, s.confirm_size) for s in late]
    assert kept == sorted(kept, reverse=True) and kept[0] == (3, 224) and kept[-1] == (0, 0)
    assert late[1].confirm_seeds < 5 and late[1].budget_check, "seeds go first"
    assert any(size == 224 and not check for check, size in kept), "the check goes before pixels"
    assert all((strategies(s), s.trials) == (strategies(study), study.trials) for s in late[1:])
    own, _ = chosen(3, given=frozenset({"confirm_seeds", "budget_check", "confirm_size"}))
    assert after_search(own, study, 5, 3)[0] == study, "what the user gave stays"


def test_what_was_given_up_by_plan_is_refused_to_a_person(tmp_path: Path) -> None:
    _, study = chosen(3)
    ledger = Ledger(tmp_path, study.name)
    ledger.begin(study, {})
    less = dataclasses.replace(study, confirm_seeds=3, budget_check=0, longest=1, confirm_size=0)
    with pytest.raises(ConfigError, match="budget_check: 3 -> 0"):
        ledger.begin(less, {})
    assert compare(fitted := ledger.begin(less, {}, planned=True), less) == [] and ledger.begin(study, {}) == fitted, (
        "asked for as it began, it goes on"
    )
    with pytest.raises(ConfigError, match="trials"):
        ledger.begin(dataclasses.replace(less, trials=less.trials - 1), {}, planned=True)


def test_a_faster_machine_than_was_measured_buys_the_strategy_that_was_left_out() -> None:
    of, study = chosen(0.3)
    assert strategies(study) == ("partial",) and not_asked("full", of.choice.left_out["full"]) in study.about
    slow, *_ = after_search(of, study, 1.0, 0.3)
    fast, *_ = after_search(of, study, 0.15, 0.3)
    assert strategies(slow) == ("partial",) and strategies(fast) == ("partial", "full") and "full" not in fast.about


@pytest.mark.parametrize("field", ["strategies", "confirm_seeds", "trials", "budget_check"])
def test_what_the_user_gave_stays(field: str) -> None:
    free, study = chosen(0.3)
    kept, _ = chosen(0.3, given=frozenset({field}))

    def of(grown: Study) -> object:
        return strategies(grown) if field == "strategies" else getattr(grown, field)

    assert of(after_search(free, study, 0.05, 0.3)[0]) != of(study) == of(after_search(kept, study, 0.05, 0.3)[0])


def test_once_the_budget_was_checked_only_seeds_are_added() -> None:
    of, study = chosen(3)
    cost = cost_of(study, of.pictures, of.machine)
    assert study.budget_check
    trained = cost.search + cost.confirm + cost.check
    sofar = Sofar(now=0.5 * trained, seconds=0.5 * trained, trained=True)
    grown = of.fitted(study, sofar, 3 * 3600)
    assert grown == dataclasses.replace(study, confirm_seeds=grown.confirm_seeds) and grown.confirm_seeds > study.confirm_seeds
    longer = of.fitted(study, dataclasses.replace(sofar, lengthened=True), 3 * 3600)
    assert longer.confirm_seeds <= grown.confirm_seeds, "each costs as many times as much"


def test_a_study_asked_for_as_it_began_goes_on_as_it_grew(tmp_path: Path) -> None:
    _, study = chosen(0.3)
    ledger = Ledger(tmp_path, study.name)
    ledger.begin(study, {})
    grown = ledger.begin(dataclasses.replace(study, confirm_seeds=9), {}, planned=True)
    assert [a["planned"] for a in ledger.amendments()] == [True]
    assert ledger.begin(study, {}) == grown == ledger.study() and grown.confirm_seeds == 9 and len(ledger.amendments()) == 1
    with pytest.raises(ConfigError, match="confirm_seeds: 9 -> 8"):
        ledger.begin(dataclasses.replace(study, confirm_seeds=8), {})
    wider = ledger.begin(dataclasses.replace(study, confirm_seeds=12), {})
    with pytest.raises(ConfigError, match="confirm_seeds: 12 -> 5"):
        ledger.begin(study, {})
    assert ledger.begin(wider, {}) == wider == ledger.study()


class Once:
    """A test of fit that allows one strategy and one more seed the first time it is asked."""

    def __init__(self) -> None:
        self.asked: list[Sofar] = []

    def fitted(self, study: Study, sofar: Sofar, ends_at: float) -> Study:
        self.asked.append(sofar)
        cells = (*study.cells, dataclasses.replace(study.cells[0], strategy="partial")) if len(self.asked) == 1 else study.cells
        return dataclasses.replace(study, cells=cells, confirm_seeds=2)


@pytest.mark.parametrize("check", [0, 2])
def test_what_is_bought_is_searched_and_confirmed_before_the_test_set_is_opened(check: int, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, ("linear_probe",), trials=2, seeds=1, check=check)
    study, once, options = find_study(str(path)), Once(), Options(results=str(tmp_path / "r"), local=True, mlflow="off", images=False)
    ended = conduct(study, options, Interrupted(), once)
    ledger = ended.ledger
    (opening,) = ledger.test_openings()
    spoke = [a for a in ledger.asks() if a.trial_id in opening["trials"] and a.origin is not Origin.LINE]
    assert sorted((a.config["cell"]["strategy"], a.number) for a in spoke) == [
        ("linear_probe", 0),
        ("linear_probe", 1),
        ("partial", 0),
        ("partial", 1),
    ]
    (grew,) = ledger.amendments()
    assert grew["planned"] and not grew["test_open"] and grew["at"] < opening["at"]
    assert [s.trained for s in once.asked] == [False, False, *[True] * bool(check)] and all(s.seconds > 0 for s in once.asked)
    assert not any("extended" in w for w in findings(load(ledger)).warnings)
    again = Once()
    assert conduct(study, options, Interrupted(), again).study == ended.study and not again.asked, "the test set is open: nothing is added"


class More(Once):
    """A test of fit that allows one more seed whenever it is asked after the budget check."""

    def fitted(self, study: Study, sofar: Sofar, ends_at: float) -> Study:
        self.asked.append(sofar)
        return dataclasses.replace(study, confirm_seeds=study.confirm_seeds + sofar.trained)


def test_seeds_are_bought_once_and_not_again_before_they_are_trained(tmp_path: Path) -> None:
    """Once, the seeds that were just bought counted as trained, and more were bought for the same minutes."""
    study = find_study(str(tiny.write(tmp_path, ("linear_probe",), trials=2, seeds=1, check=2)))
    more, options = More(), Options(results=str(tmp_path / "r"), local=True, mlflow="off", images=False)
    ended = conduct(study, options, Interrupted(), more)
    assert ended.study.confirm_seeds == 2 and [s.trained for s in more.asked] == [False, True]


@pytest.mark.parametrize("slower", SPEEDS)
def test_what_is_left_buys_a_study_by_outer_folds_a_second_pass(slower: float) -> None:
    """It is chosen and grows by whole passes alone, and never by what it refuses."""

    def settle(study: Study) -> Study:
        return dataclasses.replace(study, folds=5)

    of, study = chosen(3, settle=settle, strategies=("partial", "full"))
    assert (study.folds, study.confirm_seeds, study.budget_check) == (5, study.searches, 0) and study.searches in (5, 10)
    first = dataclasses.replace(
        study, **{name: getattr(study, name) * 5 // study.searches for name in ("searches", "trials", "random_trials", "confirm_seeds")}
    )
    grown, now, ends = after_search(of, first, slower, 3)
    planned = now + slower * (cost_of(first, of.pictures, of.machine).confirm + cost_of(first, of.pictures, of.machine).tested)
    assert ends <= max(planned, (1 - SPARE) * 3600 * 3) and grow(first, grown, "here", planned=True)[0].folds == 5
    assert grown.searches in (5, 10) and (grown.searches == 10 or slower > 0.2), (grown.searches, slower)


def test_what_is_left_goes_by_the_winners_own_settings() -> None:
    """A search that chose the usual, shallow cut leaves time for more than one that chose the deepest."""
    of, study = chosen(0.5)
    cost = cost_of(study, of.pictures, of.machine)
    cell = study.cells[0].id

    def bought(place: float) -> float:
        sofar = Sofar(now=0.6 * cost.start + cost.line + cost.search, seconds=cost.search, won={cell: place})
        grown = of.fitted(study, sofar, 3600 * 0.5)
        return cost_of(grown, of.pictures, of.machine).seconds

    shallow, usual, deep = bought(0.0), bought(0.5), bought(1.0)
    assert shallow > usual > deep


def test_a_winner_that_took_longer_than_its_price_buys_less() -> None:
    """Once, fourteen confirm runs were bought by the mean price of a search whose winner was the one that was priced too low."""
    of, study = chosen(0.5)
    cost = cost_of(study, of.pictures, of.machine)
    cell, priced = study.cells[0], run_seconds(study, study.cells[0], study.protocol, of.pictures, of.machine, {study.cells[0].id: 0.5})

    def bought(took: float) -> float:
        now = 0.6 * cost.start + cost.line + cost.search
        sofar = Sofar(now=now, seconds=cost.search, won={cell.id: 0.5}, took={cell.id: took * priced} if took else {})
        return cost_of(of.fitted(study, sofar, 3600 * 0.5), of.pictures, of.machine).seconds

    assert bought(0.0) == bought(0.5) == bought(1.0) > bought(2.0) > bought(4.0)


@pytest.mark.parametrize("hours", [3, 10])
def test_seeds_are_bought_once_the_budget_check_has_told_their_price(hours: float) -> None:
    of, study = chosen(hours)
    cost = cost_of(study, of.pictures, of.machine)
    now, short = 0.6 * cost.start + cost.line + cost.search, dataclasses.replace(study, confirm_seeds=3, budget_check=3, longest=1)
    searched = Sofar(now=now, seconds=cost.search)
    assert of.fitted(short, searched, 3600 * hours).confirm_seeds == 3
    cost = cost_of(short, of.pictures, of.machine)
    trained = dataclasses.replace(
        searched, now=now + cost.confirm + cost.check, seconds=cost.search + cost.confirm + cost.check, trained=True
    )
    assert of.fitted(short, trained, 3600 * hours).confirm_seeds > 3


def test_where_the_line_to_beat_leads_nothing_is_set_aside_to_train_the_delivery() -> None:
    """Once, three minutes of fifteen were kept for a refit that takes one pass over the images, and a budget check was given up for it."""
    of, study = chosen(0.5)
    alike = dataclasses.replace(study, confirm_size=0)
    cost = cost_of(alike, of.pictures, of.machine)
    larger = dataclasses.replace(study, confirm_size=2 * study.protocol.image_size)

    def aside(asked: Study, exact: bool) -> float:
        return of.delivery(asked, cost, 1.0, Sofar(now=0.0, seconds=cost.search, exact=exact))

    assert aside(alike, True) == cost.line < aside(alike, False)
    assert aside(larger, True) > cost.line, "what trains at more pixels than it was searched at may still lead"


@pytest.mark.parametrize("hours", [0.25, 0.5, 1, 3])
@pytest.mark.parametrize("place", [0.0, 0.5])
def test_a_search_that_goes_on_is_priced_as_if_it_may_choose_anything(hours: float, place: float) -> None:
    """Once, a check was bought by a shallow winner's price beside more trials, and the deeper winner of these had no room for it."""
    of, study = chosen(hours)
    cost = cost_of(study, of.pictures, of.machine)
    now = 0.6 * cost.start + cost.line + cost.search
    won = {cell.id: place for cell in study.cells}
    grown = of.fitted(study, Sofar(now=now, seconds=cost.search, won=won), 3600 * hours)
    if grown.trials == study.trials:
        return
    more = cost_of(grown, of.pictures, of.machine)
    later = now + more.search - cost.search
    deep = dict.fromkeys(won, 0.75)  # about the usual price
    again = of.fitted(grown, Sofar(now=later, seconds=more.search, won=deep), 3600 * hours)
    assert again.budget_check == grown.budget_check and again.confirm_seeds >= 0.8 * grown.confirm_seeds


def test_pixels_come_before_repeats_as_far_as_the_search_carries() -> None:
    """The confirm runs gain pixels first, where the hours hold more than was planned, up to twice the size that was searched at."""
    of, study = chosen(0.25)
    small = dataclasses.replace(study, confirm_size=0)
    assert study.protocol.image_size == 64
    plan = dataclasses.replace(of, choice=dataclasses.replace(of.choice, study=small))
    grown, *_ = after_search(plan, small, 0.5, 1.0)
    assert grown.confirm_size == 128 and grown.protocol.image_size == 64
    assert grow(small, dataclasses.replace(grown, about=small.about), "here", planned=True)[0].confirm_size == 128, (
        "what is bought is taken"
    )
    with pytest.raises(ConfigError, match="confirm_size: 0 -> 128"):
        grow(small, dataclasses.replace(small, confirm_size=128), "here")
    tight, *_ = after_search(plan, small, 1.0, 0.1)
    assert tight.confirm_size == 0
    own = dataclasses.replace(plan, given=frozenset({"confirm_size"}))
    assert after_search(own, small, 0.5, 1.0)[0].confirm_size == 0, "what the user gave stays"


@pytest.mark.parametrize(("spans", "length"), [
    ((), 0.0), (((1, 3),), 2.0), (((1, 3), (2, 5)), 4.0), (((1, 2), (4, 5)), 2.0), (((1, 9), (2, 3)), 8.0),
    (((4, 5), (1, 2), (1.5, 4.5)), 4.0),
])  # fmt: skip
def test_trials_that_ran_at_once_are_counted_once(spans: tuple[tuple[float, float], ...], length: float) -> None:
    assert covered(spans) == length


@pytest.mark.parametrize(("strategy", "place"), [
    (Partial(), 0.0), (Partial(unfreeze_depth=4), 1.0), (Partial(depth_steps=4, unfreeze_depth=2), 1 / 3), (Full(), 0.0),
])  # fmt: skip
def test_a_winners_cut_has_its_place_between_the_usual_and_the_deepest(strategy: Strategy, place: float) -> None:
    assert cut_place(strategy) == pytest.approx(place)
