"""The word `mine`: the choice is a function of images, speeds and hours, with laws.

The rest of a study is measured, and a log is never silent.
"""

import dataclasses
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from study import sweep, trial
from study.budget.bought import Choice, choose, enough, with_about
from study.budget.ladder import BATCHES, SEEDS, Ladder, batch_size, fair_epochs, half, sizes
from study.budget.machine import alike, dearest
from study.budget.price import Cost, Machine, Pace, Pictures, cost_of, distinct, trained_share
from study.budget.reasons import reasons
from study.console.eta import Remaining, Running
from study.console.progress import Names, Watch, busy
from study.errors import ConfigError
from study.question.as_python import as_source
from study.question.cell import grid
from study.question.studies import QUICKSTART, STUDIES, find_study, narrow, settings
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import Ask, EpochRecord, Origin, Outcome, Stage, TrialResult
from study.search.conductor import Conductor
from study.search.plans import FixedPlan
from study.storage.options import Options
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger

EVERY = ("partial", "full", "layer_decay", "lp_ft")
NET = "efficientnet_lite0"
MEASURED = {  # milliseconds an image of EfficientNet-Lite0 on one core: (frozen, trained, evaluated)
    64: {"linear_probe": [(1.3, 0.02, 0.01)], "partial": [(1.3, 0.6, 0.13), (0.7, 4.1, 0.7)], "full": [(0, 6.6, 1.2)]},
    128: {"linear_probe": [(5.6, 0.02, 0.01)], "partial": [(5.3, 1.4, 0.7), (3.1, 9.7, 2.4)], "full": [(0, 22.8, 4.8)]},
    224: {"linear_probe": [(17.5, 0.02, 0.01)], "partial": [(18, 3.9, 1.2), (10.5, 29.9, 7.5)], "full": [(0, 68.3, 15.7)]},
}


def machine(speed: float = 1.0, at_once: int = 2, start: float = 60, **more) -> Machine:
    """Return two cores as they were measured, `speed` times as fast."""
    paces: dict[tuple[str, str], dict[int, tuple[Pace, ...]]] = {}
    for size, rows in MEASURED.items():
        for strategy in ("linear_probe", *EVERY):
            halves = [[ms / 1000 / speed for ms in row] for row in rows.get(strategy, rows["full"])]
            paces.setdefault((NET, strategy), {})[size] = tuple(Pace(frozen=f, train=t, evaluate=e) for f, t, e in halves)
    return Machine(at_once=at_once, start=start, trial=0.5, solve=1e-3, own=224, paces=paces, **more)


def pictures(images: int = 500, side: int = 500, classes: int = 6) -> tuple[Pictures, ...]:
    train = round(0.6 * images)
    val = (images - train) // 2
    return (Pictures(dataset="folder:/images", train=train, val=val, test=images - train - val, classes=classes, side=side),)


def a_ladder(images: tuple[Pictures, ...] | None = None, **options) -> Ladder:
    images = images or pictures()
    return Ladder(pictures=images, backbones=(NET,), sizes=sizes(224), **options)


def chosen(hours: float, images: tuple[Pictures, ...] | None = None, m: Machine | None = None, **options) -> Choice:
    return choose(a_ladder(images, **options), m or machine(), hours)


def strategies(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.strategy for c in study.cells))


def confirmed(study: Study) -> int:
    return study.confirm_size or study.protocol.image_size


HOURS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 4, 8, 16, 40, 1000]
IMAGES = [60, 300, 1200, 6000, 20_000]


# ---- laws -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize(("side", "speed"), [(32, 0.3), (160, 1), (2000, 0.3), (2000, 30)])
def test_more_hours_never_give_less_and_none_costs_more_than_was_given(images: int, side: int, speed: float) -> None:
    own, m, before = pictures(images, side), machine(speed), None
    for hours in HOURS:
        try:
            choice = chosen(hours, own, m)
        except ConfigError:
            assert before is None, "what fitted into fewer hours fits into more"
            continue
        study = choice.study
        assert cost_of(study, own, m) == choice.cost and choice.cost.hours <= hours
        assert study.confirm_seeds >= SEEDS and study.confirm_seeds >= study.searches and study.trials == 4 * study.searches
        assert confirmed(study) >= study.protocol.image_size >= min(confirmed(study) / 2, 64)
        bought = [r.bought for r in choice.rungs]
        assert before is None or bought >= before, "in the order of the ladder, what was bought is bought again, or something before it"
        before = bought
    assert before is not None and len(before) - sum(before) < 20, "a thousand hours hold something of everything, or nearly"


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("side", [48, 160, 384])
def test_every_strategy_is_trained_fairly_or_left_out(images: int, side: int) -> None:
    for hours in HOURS:
        try:
            study = chosen(hours, pictures(images, side)).study
        except ConfigError:
            continue
        train, p = pictures(images, side)[0].train, study.protocol
        assert p.steps(train) >= 300 or p.max_epochs == 60
        assert p.max_epochs >= 10 or (p.max_epochs >= 5 and p.steps(train) >= 600)
        if "full" in strategies(study):
            assert confirmed(study) >= min(224, max(side // 32 * 32, 64)), "the pixels that images have come before the dearest strategy"


@pytest.mark.parametrize("images", [60, 300, 1200, 6000])
@pytest.mark.parametrize("speed", [0.5, 1, 5])
def test_a_tenth_at_most_is_left_while_there_is_something_to_buy(images: int, speed: float) -> None:
    for hours in (1, 1.5, 2, 4, 8, 16):
        choice = chosen(hours, pictures(images, 160), machine(speed))
        if not all(r.bought for r in choice.rungs) and "full" in strategies(choice.study):
            assert choice.unspent <= 0.1 * hours, (images, speed, hours)
        assert choice.cost.hours + choice.unspent <= 0.85 * hours + 1e-9, "the rest is set aside for delivery"


def test_a_faster_machine_and_more_at_once_never_give_less() -> None:
    bought = [[r.bought for r in chosen(1, m=machine(speed)).rungs] for speed in (0.5, 1, 2, 5, 20)]
    assert bought == sorted(bought) and bought[0] < bought[-1]
    assert [r.bought for r in chosen(1, m=machine(at_once=8)).rungs] > [r.bought for r in chosen(1, m=machine(at_once=1)).rungs]


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("side", [32, 224, 2000])
@pytest.mark.parametrize("speed", [0.2, 1, 20])
def test_nothing_is_refused_that_holds_the_line_to_beat_and_one_strategy(images: int, side: int, speed: float) -> None:
    own, m = pictures(images, side), machine(speed)
    ladder = a_ladder(own)
    smallest = cost_of(ladder.base()[1], own, m)
    study = choose(ladder, m, 1.0001 * smallest.hours).study
    assert strategies(study) == ("linear_probe",) and study.protocol.image_size == 64
    with pytest.raises(ConfigError, match="not enough"):
        choose(ladder, m, 0.999 * smallest.hours)
    line, start = own[0].images * 0.0175 / speed, 60
    assert smallest.seconds < start + 4 * line + 30 + own[0].train * own[0].classes * 2e-3 + 15 * own[0].train * 10 * 0.0013 / speed


# ---- the order --------------------------------------------------------------------------------------------


def test_pixels_come_before_the_check_and_training_before_repeats() -> None:
    names = [r.change.title for r in chosen(1000, pictures(1200, 384)).rungs if r.change.title]
    order = [
        "128 px",
        "partial",
        "224 px",
        "full",
        "budget check at 3 times the epochs",
        "44 epochs (1,012 steps)",
        "5 searches",
        "10 searches",
    ]
    assert [n for n in names if n in order] == order
    after = ["searched at the confirmed size", "confirmed at 3 times the epochs where a strategy gains", "layer_decay", "lp_ft"]
    assert [n for n in names[names.index("10 searches") :] if n in after] == after


def test_every_rung_costs_more_than_the_one_before() -> None:
    hours = [r.hours for r in chosen(1000, pictures(1200, 384)).rungs]
    assert hours == sorted(hours) and hours[0] > 0


def test_what_is_left_out_is_said_with_the_hours_that_hold_it() -> None:
    images = pictures(1200, 384)
    choice = chosen(1, images)
    assert strategies(choice.study) == ("partial",) and list(choice.left_out) == ["full"]
    needed = choice.left_out["full"]
    assert "full" in strategies(chosen(needed * 1.001, images).study) and "full" not in strategies(chosen(needed * 0.99, images).study)
    (why,) = [why for what, _, why in reasons(choice, images, machine()) if what == "strategies"]
    assert f"full was left out: to train it fairly needs --hours {enough(needed):g}" in why
    assert (
        f"Training everything (full) was left out: to train it fairly, the study needs about {enough(needed):g} hours "
        f"(--hours {enough(needed):g})." in with_about(choice.study, choice, 2).about
    )


def test_hours_that_cannot_hold_say_which_would() -> None:
    with pytest.raises(
        ConfigError, match=r"^0.01 hours are not enough for this study\. It needs about [\d.]+: --hours [\d.]+\. "
    ) as refused:
        chosen(0.01)
    told = float(str(refused.value).partition("--hours ")[2].partition(". ")[0])
    assert not any(r.bought for r in chosen(told).rungs[1:] if r.change.adds) and "\n" not in str(refused.value)
    assert [enough(h) for h in (0.041, 0.31, 0.3, 2.31, 37.2)] == [0.05, 0.4, 0.3, 2.4, 38]


def test_a_busy_machine_is_named_in_table_and_refusal() -> None:
    busy = machine(load=22, cores=2)
    said = "measured while this machine was busy: load 22 on 2 cores"
    with pytest.raises(ConfigError, match=said):
        chosen(0.01, m=busy)
    (time_row,) = [why for what, _, why in reasons(chosen(1, m=busy), pictures(), busy) if what == "time"]
    assert said.capitalize() in time_row
    assert machine(load=1.9, cores=2).busy == "" and machine(load=22, cores=64).busy == ""


@pytest.mark.parametrize(
    ("images", "side", "hours", "plan"),
    [
        (500, 500, 0.1, (("linear_probe",), 128, 224, 1)),
        (500, 500, 0.25, (("partial",), 96, 192, 1)),
        (1200, 384, 1, (("partial",), 128, 224, 1)),
        (1200, 384, 10, (("partial", "full"), 224, 224, 1)),
        (840, 150, 0.25, (("partial",), 64, 128, 1)),
        (397, 160, 0.5, (("partial", "full"), 96, 160, 1)),
        (1295, 128, 1, (("partial", "full"), 64, 128, 1)),
        (6000, 48, 1, (("partial", "full"), 64, 64, 1)),
        (1200, 160, 10, (("partial", "full"), 224, 224, 1)),
    ],
)
def test_plans_for_two_cores(images: int, side: int, hours: float, plan: tuple[tuple[str, ...], int, int, int]) -> None:
    study = chosen(hours, pictures(images, side)).study
    assert (strategies(study)[:3], study.protocol.image_size, confirmed(study), study.searches) == plan


def cut(images: int, folds: int = 5, side: int = 384) -> tuple[Pictures, ...]:
    return tuple(dataclasses.replace(p, folds=folds) for p in pictures(images, side))


@pytest.mark.parametrize("images", [300, 1200])
def test_few_images_are_cut_into_folds_where_the_hours_hold_it_and_else_nothing_changes(images: int) -> None:
    before, folded = [], set()
    for hours in HOURS:
        try:
            plain, choice = chosen(hours, cut(images, folds=1)), chosen(hours, cut(images))
        except ConfigError:
            continue
        study = choice.study
        assert plain.study.folds == 1 and choice.cost.hours <= hours
        bought = [r.bought for r in choice.rungs]
        assert bought >= before
        before = bought
        folded.add(study.folds)
        if study.folds == 1:
            assert study == plain.study, "hours that hold no folds buy what they always did"
        else:
            assert study.folds == 5 and study.searches in (5, 10) and study.confirm_seeds == study.searches and study.budget_check == 0
            assert strategies(study)[:2] == strategies(plain.study)[:2] and confirmed(study) == confirmed(plain.study)
    assert folded == {1, 5}
    rows = {what: why for what, _, why in reasons(chosen(1000, cut(images)), cut(images), machine())}
    assert "every image is a test image once" in rows["folds"] and "test images of another fold" in rows["budget_check"]


def test_what_the_user_set_keeps_folds_away() -> None:
    for given in ({"folds": 1}, {"searches": 1, "trials": 4, "random_trials": 3}, {"budget_check": 3}):
        choice = chosen(1000, cut(300), settle=lambda study, given=given: dataclasses.replace(study, **given))
        assert choice.study.folds == 1
    assert a_ladder((*cut(300), *pictures(300))).folds == 1, "one data set of several keeps its test split"


def test_ten_hours_on_1200_images_train_a_thousand_steps_at_the_networks_own_size() -> None:
    images = pictures(1200, 384)
    choice = chosen(10, images)
    assert confirmed(choice.study) == 224 and choice.study.protocol.steps(images[0].train) >= 1000
    assert choice.unspent < 1 and choice.study.budget_check == 3


# ---- prices -----------------------------------------------------------------------------------------------


def priced(strategy: str, m: Machine | None = None, **fields) -> Cost:
    protocol = Protocol(**{"max_epochs": 10, "image_size": 64, "views": 10, "train_eval_images": 256} | fields.pop("protocol", {}))
    cells = grid(["folder:/images"], [NET], [strategy])
    study = Study(name="a", cells=cells, protocol=protocol, **{"trials": 4, "random_trials": 3, "confirm_seeds": 5} | fields)
    return cost_of(study, pictures(), m or machine(at_once=1))


def test_epochs_beyond_the_stored_views_cost_the_trained_half_alone() -> None:
    ten, hundred = priced("linear_probe"), priced("linear_probe", protocol={"max_epochs": 100})
    assert hundred.confirm < 1.2 * ten.confirm
    assert priced("full", protocol={"max_epochs": 100}).confirm > 8 * priced("full").confirm
    assert priced("linear_probe", protocol={"views": 0, "max_epochs": 100}).confirm > 5 * ten.confirm, "nothing stored, nothing reused"


def test_a_full_trial_is_its_epochs_times_its_images() -> None:
    (p,) = pictures()
    trial = 0.5 + 10 * (p.train * 0.0066 + (p.val + 256) * 0.0012)
    cost = priced("full")
    assert cost.search == pytest.approx(4 * trial)
    assert cost.confirm == pytest.approx(5 * trial) and cost.tested == pytest.approx(5 * (0.5 + (p.val + p.test) * 0.0012))
    assert priced("full", budget_check=3).check == pytest.approx(0.5 + 3 * (trial - 0.5))
    assert priced("full", confirm_size=128).confirm > 3 * cost.confirm and priced("full", confirm_size=128).search == cost.search


def test_trials_share_the_machine_and_the_longest_is_waited_for() -> None:
    one, two = priced("full", machine(at_once=1)), priced("full", machine(at_once=2))
    assert two.search == pytest.approx(one.search / 2 + one.search / 8)


def test_trials_that_may_be_stopped_are_priced_at_the_share_that_is_trained() -> None:
    def share(epochs: int, grace: int, factor: int) -> float:
        study = dataclasses.replace(QUICKSTART, protocol=Protocol(max_epochs=epochs), grace_epochs=grace, reduction_factor=factor)
        return trained_share(study)

    assert share(10, 10, 2) == 1
    assert share(9, 3, 3) == pytest.approx(3 / 9 + 1 / 3 * 6 / 9)
    assert share(12, 3, 2) == pytest.approx((3 + 3 / 2 + 6 / 4) / 12)
    many, few = priced("full", trials=12, random_trials=3, grace_epochs=3), priced("full", trials=12, random_trials=11, grace_epochs=3)
    assert many.search < 0.8 * few.search


def test_trials_of_a_search_share_views_that_look_alike() -> None:
    assert distinct(0, 4) == 1 and distinct(1000, 1) == pytest.approx(5) and distinct(1000, 4) == pytest.approx(20)
    drawn = np.random.default_rng(0)
    found = [len({2, *(round(4 * s) for s in drawn.uniform(size=3))}) for _ in range(4000)]
    assert distinct(3, 1) == pytest.approx(np.mean(found), abs=0.05)


def test_the_line_to_beat_is_one_pass_over_the_images() -> None:
    cost = priced("full", protocol={"image_size": 224})
    assert cost.line == pytest.approx(1 + 500 * 0.0157 + 300 * 6 * 1e-3)
    assert cost.line < priced("full").line, "below the full size it is solved at the study's size too"


def test_a_size_that_was_not_measured_goes_by_pixels() -> None:
    for strategy, end in (("linear_probe", 0), ("partial", 0), ("partial", 1), ("full", 0)):
        known = machine().paces[NET, strategy]
        two = dataclasses.replace(machine(), paces={(NET, strategy): {s: known[s] for s in (64, 128)}})
        got, measured = two.pace(NET, strategy, 224)[end], known[224][end]
        assert got.frozen + got.train == pytest.approx(measured.frozen + measured.train, rel=0.15), "as it was measured"
    assert two.pace(NET, "full", 32) == two.pace(NET, "full", 64)


# ---- what is given ----------------------------------------------------------------------------------------


def test_sizes_stop_at_the_images_own_and_the_networks() -> None:
    assert sizes(224) == (64, 96, 128, 160, 192, 224)
    assert sizes(100) == (64, 96, 100)
    assert sizes(32) == (64,)
    assert sizes(384)[-1] == 384
    assert [half(s, sizes(224)) for s in (64, 96, 128, 160, 224, 100)] == [64, 64, 64, 96, 128, 64]


def test_few_images_get_small_batches_and_many_epochs() -> None:
    assert [batch_size(pictures(n)) for n in (60, 400, 9000)] == [8, 16, 32]
    assert set(BATCHES) == {8, 16, 32}
    assert [fair_epochs(n, 32) for n in (720, 320, 3000, 4500, 12_000)] == [14, 30, 7, 5, 5]
    assert fair_epochs(36, 8) == 60


def test_what_is_given_stays_and_the_rest_is_chosen_around_it() -> None:
    def settle(study: Study) -> Study:
        return narrow(study, image_size=96, max_epochs=3, trials=10)

    choice = chosen(1000, settle=settle)
    study = choice.study
    assert (study.protocol.image_size, confirmed(study), study.protocol.max_epochs, study.trials) == (96, 96, 3, 10)
    assert study.protocol.views == 3 and study.grace_epochs == 1
    assert study.searches == 10 and strategies(study) == EVERY
    given = {what: why for what, _, why in reasons(choice, pictures(), machine(), frozenset({"image_size"}))}
    assert given["image_size"] == "given" != given["trials"]


@pytest.mark.parametrize("searches", [2, 5, 7])
def test_searches_that_are_given_have_their_trials_and_seeds(searches: int) -> None:
    study = chosen(1000, settle=lambda s: narrow(s, searches=searches)).study
    assert study.searches == searches and study.trials == 4 * searches and study.confirm_seeds == max(searches, 20)


def test_strategies_that_are_given_are_the_ones_and_pixels_come_next() -> None:
    choice = chosen(1, strategies=("full",))
    assert strategies(choice.study) == ("full",) and choice.left_out == {}
    with pytest.raises(ConfigError, match="leave --strategies out"):
        chosen(0.05, strategies=("partial", "full"))


def test_a_size_that_is_given_for_confirmation_is_the_largest_searched() -> None:
    for hours in (0.1, 1000):
        study = chosen(hours, settle=lambda s: narrow(s, confirm_size=96)).study
        assert confirmed(study) == 96 and study.protocol.image_size in (64, 96)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="searches"):
        chosen(1, settle=lambda s: narrow(s, searches=5, confirm_seeds=3))


def test_the_file_gives_the_same_study(tmp_path: Path) -> None:
    shapes = [
        chosen(3).study,
        dataclasses.replace(QUICKSTART, cells=QUICKSTART.cells[1:], about='a "quoted" \\ text', space={}),
        dataclasses.replace(QUICKSTART, protocol=Protocol(grad_clip=float("inf"), precision="bf16"), explain=("controls",)),
        *STUDIES.values(),
    ]
    for study in shapes:
        path = tmp_path / "my_study.py"
        path.write_text(as_source(study, 'why: """ and \\'), encoding="utf-8")
        made: dict[str, object] = {}
        exec(path.read_text(), made)
        assert made["MINE"] == study


def test_the_dearest_settings_of_a_search_are_priced() -> None:
    assert dearest(STRATEGIES["partial"], 8, 5).unfreeze_depth == 4
    assert dearest(STRATEGIES["partial"], 3, 5).unfreeze_depth == 3
    assert dearest(STRATEGIES["full"], 3, 5) == STRATEGIES["full"]()


# ---- --set --------------------------------------------------------------------------------------------------


def test_settings_set_protocol_and_study_as_python_does() -> None:
    found = narrow(
        QUICKSTART,
        **settings(["image_size=224", "max_epochs=15", "margin=0.5", "measure=predictions,cka", "precision=bf16", "search=mixup,ema"]),
    )
    protocol = dataclasses.replace(QUICKSTART.protocol, image_size=224, max_epochs=15, precision="bf16")
    assert found == dataclasses.replace(QUICKSTART, protocol=protocol, margin=0.5, measure=("predictions", "cka"), search=("mixup", "ema"))


@pytest.mark.parametrize("first", ["image_size=32", "max_epochs=2", "seed=1", "batch_size=8"])
@pytest.mark.parametrize("command", [["sweep", "quickstart"], ["trial", "digits/efficientnet_lite0/partial"]])
@pytest.mark.parametrize("between", [[], ["views=1"]])
def test_a_setting_that_is_given_twice_is_refused(command: list[str], first: str, between: list[str], capsys) -> None:
    """In a trial, the last one once won without a word."""
    name = first.partition("=")[0]
    main = {"sweep": sweep, "trial": trial}[command[0]].main
    assert main([command[1], "--set", first, *between, f"{name}=16"]) == 2
    assert capsys.readouterr().err == f"error: --set {name} is given twice. Keep one.\n"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("imag_size=224", "image_size"),
        ("image_size", "NAME=VALUE"),
        ("image_size=big", "image_size must be a whole number"),
        ("lr=1e-3", "partial.lr|.lr"),
        ("weight_decay=0", "recipe.weight_decay"),
        ("cells=x", "--datasets"),
        ("optimizer=adam", "adamw or sgd"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_one_line(pair: str, message: str, tmp_path: Path, capsys) -> None:
    assert sweep.main(["quickstart", "--set", pair, "--results", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert any(m in line for m in message.split("|")) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "--datasets"),
        (["quickstart", "--hours", "2"], "mine"),
        (["quickstart", "--trials", "4", "--set", "trials=5"], "twice"),
        (["mine", "--datasets", "digits", "--hours", "-1"], "--hours"),
    ],
)
def test_hours_and_images_belong_to_mine(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert sweep.main([*arguments, "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


# ---- the command --------------------------------------------------------------------------------------------


def test_speeds_are_measured_again_where_the_load_is_another() -> None:
    assert alike(0.1, 1.9, 2) and alike(8, 10, 2) and alike(0, 3, 2)
    assert not alike(0.1, 8, 2) and not alike(22, 0.8, 2) and alike(8, 0.1, 16)


def test_speeds_are_kept_with_their_load_and_what_was_kept_without_is_measured(tmp_path: Path, monkeypatch) -> None:
    from study.budget import machine as speed
    from study.storage.places import Places

    took: list[float] = []
    monkeypatch.setattr(speed, "usable_cores", lambda: 2)
    monkeypatch.setattr(speed, "_process", lambda ray: took.append(1.0) or 1.0)

    def measured(load: float) -> speed.Speeds:
        monkeypatch.setattr(speed, "load", lambda: load)
        speeds = speed.Speeds(Places(folder="", cache=str(tmp_path)), speed.Conditions(at_once=2, threads=1, ray=True))
        speeds.process()
        return speeds

    assert [measured(load).load for load in (0.1, 1.5)] == [0.1, 0.1] and len(took) == 1, "kept: both are quiet"
    busy = measured(22)
    assert busy.load == 22 and not busy.quiet and len(took) == 2
    assert measured(0.8).load == 0.8 and len(took) == 3, "a busy hour says nothing of a quiet one"
    kept = json.loads((tmp_path / "speeds.json").read_text())
    (tmp_path / "speeds.json").write_text(json.dumps({k: {n: x for n, x in v.items() if n != "load"} for k, v in kept.items()}))
    assert measured(0.8).load == 0.8 and len(took) == 4


def test_a_refusal_names_the_networks_that_it_is_not_about(tmp_path: Path) -> None:
    from study.budget.choose import _unused

    for name in ("resnet50_imagenet.safetensors", "mobilenetv2_100.pth"):
        (tmp_path / name).touch()
    said = _unused(None, ["efficientnet_lite0"], str(tmp_path))
    assert "This is for efficientnet_lite0." in said and "holds mobilenetv2_100, resnet50: name one with --backbones" in said
    assert _unused(["resnet50"], ["resnet50"], str(tmp_path)) == "" == _unused(None, ["efficientnet_lite0"], None)


def speedy(monkeypatch) -> None:
    from study.budget import machine as speed
    from study.budget import measured

    monkeypatch.setattr(speed, "measure", lambda *a: type("P", (), {"frozen": 0.001, "train": 0.002, "evaluate": 0.001})())
    monkeypatch.setattr(speed, "_process", lambda ray: 1.0)
    monkeypatch.setattr(speed, "load", lambda: 0.0)
    monkeypatch.setattr(speed.Speeds, "precision", lambda *a: "fp32")
    monkeypatch.setattr(measured, "LOOKED_AT", 3)


def test_a_dry_run_only_says_and_a_second_one_says_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    speedy(monkeypatch)
    monkeypatch.chdir(tmp_path)
    said = []
    for _ in range(2):
        assert sweep.main(["mine", "--datasets", "digits", "--hours", "1", "--dry-run", "--results", str(tmp_path / "r")]) == 0
        said.append(capsys.readouterr().out.split("px ...")[-1])  # after the lines that say the time
    assert said[0] == said[1] and "image_size" in said[0] and "what hours buy, in this order" in said[0]
    assert not (tmp_path / "my_study.py").exists() and not (tmp_path / "r").exists()
    assert sweep.main(["mine", "--datasets", "digits", "--hours", "0.001", "--dry-run", "--results", str(tmp_path / "r")]) == 2
    assert "--hours" in capsys.readouterr().err


def test_the_same_command_goes_on_with_what_was_chosen_first(tmp_path: Path, monkeypatch, capsys) -> None:
    from study.conduct import pipeline

    speedy(monkeypatch)
    monkeypatch.chdir(tmp_path)
    ran: list[Study] = []

    def conduct(study: Study, *_: object) -> None:
        ran.append(study)
        Ledger(tmp_path / "r", study.name).begin(study, {})
        raise ConfigError("enough")

    monkeypatch.setattr(pipeline, "conduct", conduct)
    command = ["mine", "--datasets", "digits", "--results", str(tmp_path / "r"), "--set", "confirm_seeds=6"]
    assert sweep.main([*command, "--hours", "1"]) == 2
    assert f"{tmp_path / 'my_study.py'} holds this study. To change max_epochs, image_size" in capsys.readouterr().out
    assert all(f"{n}=" in (tmp_path / "my_study.py").read_text() for n in ("max_epochs", "image_size", "confirm_seeds"))
    assert (tmp_path / "my_study.py").exists() and find_study("my_study.py") == ran[0] and ran[0].confirm_seeds == 6
    assert sweep.main([*command, "--hours", "50"]) == 2
    assert dataclasses.replace(ran[1], published={}) == ran[0], "a begun study is no other one because of other hours"
    assert sweep.main([*command[:2], "mini_faces", *command[3:]]) == 2
    assert "other images" in capsys.readouterr().err
    assert sweep.main(["mine", "--datasets", "digits", "--results", str(tmp_path / "s"), "--hours", "50"]) == 2
    assert "my_study.py is there already and holds another study" in capsys.readouterr().err


OWN = {
    "no study": "raise SystemExit('run')",
    "no Python": "a study of mine: 3 strategies",
    "another study": "from study import Study, grid\nMINE = Study(name='x', cells=grid(['digits'], ['resnet50'], ['full']))",
    "a folder": None,
}


@pytest.mark.parametrize("what", OWN)
@pytest.mark.parametrize("dry", [True, False])
def test_a_file_of_the_users_own_is_neither_run_nor_replaced(what: str, dry: bool, tmp_path: Path, monkeypatch, capsys) -> None:
    """A file without a study was once run, and said to hold 0 studies of which one should be named."""
    speedy(monkeypatch)
    monkeypatch.chdir(tmp_path)
    file, text = tmp_path / "my_study.py", OWN[what]
    file.mkdir() if text is None else file.write_text(text)
    more = ["--dry-run"] if dry else []
    assert sweep.main(["mine", "--datasets", "digits", "--hours", "1", "--results", str(tmp_path / "r"), *more]) == 2
    said = capsys.readouterr().err
    assert "my_study.py is there already and holds another study, or none" in said and "move it away" in said and "--name" in said
    assert [p.name for p in tmp_path.iterdir()] == ["my_study.py"] and (text is None or file.read_text() == text)


WRONG = {
    "a class": (["--metric", "f1:wasp"], 2, "no class is called 'wasp'"),
    "costs": (["--metric", "cost:costs.csv"], 2, "wasp"),
    "an order": (["--metric", "quadratic_kappa:0,1"], 2, "Name each of them once"),
    "GPUs": (["--gpus-per-trial", "999"], 4, "999 GPU"),
    "processors": (["--cpus-per-worker", "999"], 4, "999 CPU"),
    "workers": (["--workers", "4", "--cpus-per-worker", "999"], 4, "each of 4 workers"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("study", ["mine", "quickstart"])
@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_be_run_is_refused_before_anything_is_measured_or_written(
    what: str, study: str, dry: bool, tmp_path: Path, monkeypatch, capsys
) -> None:
    """A dry run once passed what a run refused, and that left a file which blocked the next, or had solved the line to beat before."""
    from study.budget import measured
    from study.conduct import stages

    def unasked(*_: object) -> None:
        raise AssertionError("it should have been refused before")

    speedy(monkeypatch)
    monkeypatch.setattr(measured.Bench, "machine", unasked)
    monkeypatch.setattr(stages, "set_line", unasked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text(",wasp,bee\nwasp,0,1\nbee,2,0\n")
    arguments, code, said = WRONG[what]
    command = [study, "--datasets", "digits", "--results", str(tmp_path / "r"), "--mlflow", "off", *arguments]
    assert sweep.main([*command, "--dry-run"] if dry else command) == code
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["costs.csv"]


# ---- progress ------------------------------------------------------------------------------------------------


def test_names_leave_out_what_all_cells_share() -> None:
    cells = [c.id for c in grid(["folder:/long/path/weeds"], ["efficientnet_lite0"], ["partial", "full"])]
    assert [Names(cells)(c) for c in cells] == ["partial", "full"]
    two = [c.id for c in grid(["folder:/a/weeds", "folder:/a/faces"], ["b"], ["full"])]
    assert [Names(two)(c) for c in two] == ["weeds", "faces"]
    alike = [c.id for c in grid(["folder:/a/x", "folder:/b/x"], ["b"], ["full", "partial"])]
    assert Names(alike)(alike[0]) == "folder:/a/x full" and len({Names(alike)(c) for c in alike}) == 4
    assert Names(cells)("other/official/net/scratch/1") == "scratch", "a control of the explain stage"


def test_what_is_left_is_measured_and_never_guessed() -> None:
    left = Remaining(max_epochs=10)
    left.todo.update({("a", False): 4, ("a", True): 2, ("b", False): 4})
    assert left.left({}) is None
    one = {"1": Running(cell="a", whole=False, seconds=22, epochs=2, trained=20)}
    assert left.left(one) == pytest.approx(10 * 100 - 22), "ten seconds an epoch, b's as a's"
    left.measured("a", 50, 5)  # stopped halfway: a search's trials are shorter than confirm runs
    left.measured("b", 200, 10)
    left.done("a", False)
    assert left.left({}) == pytest.approx(3 * 50 + 2 * 100 + 4 * 200)
    both = {k: Running(cell="b", whole=False, seconds=0, epochs=0, trained=0) for k in "12"}
    assert left.left(both) == pytest.approx((3 * 50 + 2 * 100 + 4 * 200) / 2), "two at once"
    late = Running(cell="b", whole=True, seconds=800, epochs=4, trained=790)
    alone = Remaining(max_epochs=10)
    alone.todo["b", True] = 1
    alone.measured("b", 200, 10)
    assert alone.left({"1": late}) == pytest.approx(1200), "four of ten epochs took 800 seconds, whatever the others took"
    assert alone.left({"1": dataclasses.replace(late, epochs=0, trained=0)}) == 800, "nothing of it is known: as long again"
    for _ in range(4):
        for cell, whole in (("b", False), ("a", False), ("a", True)):
            left.done(cell, whole)
    assert left.left({}) == 0


def record(epoch: int) -> EpochRecord:
    return EpochRecord(epoch=epoch, metrics={"val/macro_f1": 0.5}, train_seconds=0.1, eval_seconds=0.1, images=9, ended_at=0.0, facts={})


def test_a_trial_that_no_worker_has_yet_is_not_in_its_first_epoch(tmp_path: Path) -> None:
    """Others may hold the processors for minutes after Ray was asked for it."""
    ask = Ask(
        trial_id="t", cell="d/official/net/full/1", number=3, stage=Stage.SEARCH, origin=Origin.RANDOM, config={"protocol": {}}, sequence=0
    )
    with Watch("search", 1, 0, 2, Names([ask.cell])) as watch:
        conductor = Conductor(FixedPlan([ask], set()), Ledger(tmp_path, "s"), lambda config: ["a"], watch)
        assert conductor.ask() == ask
        assert watch._heartbeat() == "search 0/1: waiting for a worker"
        conductor.begin("t")
        assert watch._heartbeat() == "search 0/1: full #3 epoch 1/2 for 0 s"


def test_a_log_names_the_time_left_and_is_never_silent(monkeypatch, capsys) -> None:
    from study.console import progress

    monkeypatch.setattr(progress, "QUIET_S", 0.05)
    ask = Ask(
        trial_id="t", cell="d/official/net/full/1", number=3, stage=Stage.SEARCH, origin=Origin.RANDOM, config={"protocol": {}}, sequence=0
    )
    left = Remaining(max_epochs=2)
    left.todo["d/official/net/full/1", False] = 2
    with Watch("search", 2, 0, 2, Names([ask.cell]), left) as watch:
        watch("start", ask, None)
        watch("epoch", ask, record(1))
        time.sleep(0.3)
        result = TrialResult(
            trial_id="t", outcome=Outcome.COMPLETED, reason="", epochs=2, best_epoch=1, metrics={"val/macro_f1": 0.5}, classes=[],
            val=None,
            seconds=0.4, images=9, workers=1, device="", attempts=1, started_at=0.0, ended_at=0.0, facts={},
        )  # fmt: skip
        watch("end", ask, result)
    lines = capsys.readouterr().out.splitlines()
    assert "full #3 epoch 1/2 val macro-F1 0.500" in lines[1]
    beats = [line for line in lines if "search 0/2: full #3 epoch 2/2 for" in line]
    assert 2 <= len(beats) <= 7 and all("left of the study" in b for b in beats)
    assert "[1/2] full #3 completed" in lines[-1] and "left of the study" in lines[-1]
    assert "study-voice" not in [t.name for t in threading.enumerate()]


def test_what_lasts_is_said_again(monkeypatch, capsys) -> None:
    from study.console import progress

    with busy("nothing"):
        pass
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "QUIET_S", 0.05)
    with busy("starting Ray on 2 cores", announced=True):
        time.sleep(0.2)
    first, *again = capsys.readouterr().out.splitlines()
    assert first.endswith("starting Ray on 2 cores ...") and again and all("starting Ray on 2 cores, for" in line for line in again)


def test_a_study_begun_knows_what_is_left(tmp_path: Path) -> None:
    from study.conduct.stages import remaining

    study = dataclasses.replace(QUICKSTART, explain=("memorisation",))
    ledger = Ledger(tmp_path, study.name)
    ledger.begin(study, {})
    left = remaining(study, ledger)
    assert sum(left.todo.values()) == len(study.cells) * (study.trials + 5 + 5) and left.left({}) is None


def test_weights_are_known_by_their_files_names(tmp_path: Path) -> None:
    from study.networks.weights import names_in

    for name in ("resnet50_imagenet.safetensors", "mobilenetv2_100-a.b.pth", "efficientnet_lite0.pt", "resnet50.txt", "unheard_of.pth"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["efficientnet_lite0", "mobilenetv2_100", "resnet50"]
    assert names_in(tmp_path / "nowhere") == []


def test_the_last_stage_keeps_its_share_however_late_the_others_end() -> None:
    assert Options(ends_at=1.0, aside=0.3).left() == 0.3 and Options(ends_at=1.0).left() == 0
    assert Options(ends_at=time.time() + 3600, aside=0.3).left() == pytest.approx(1, abs=0.01)
