"""`mine`: the choice is a function of images, speeds and hours, with laws; what is left of a study is measured; a log is never silent."""

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from study import sweep
from study.config import Protocol, Study, grid
from study.errors import ConfigError
from study.mine import BATCHES, SEEDS, Choice, Machine, Pace, Pictures, batch_size, choose, cost_of, enough, ladder, reasons, sizes
from study.progress import Names, Watch, busy
from study.records import Ask, EpochRecord, Origin, Outcome, Stage, TrialResult
from study.remaining import Remaining, Running
from study.source import as_source
from study.speed import dearest
from study.strategies import STRATEGIES
from study.studies import QUICKSTART, STUDIES, find_study, narrow, settings
from study.tracking.ledger import Ledger

EVERY = ("linear_probe", "partial", "full", "layer_decay", "lp_ft")
DEPTH = {"linear_probe": 0.3, "partial": 0.7}


def machine(speed: float = 1.0, at_once: int = 2) -> Machine:
    def pace(strategy: str, size: int) -> Pace:
        return Pace(train=DEPTH.get(strategy, 1.0) * size**2 / 4e5 / speed, evaluate=size**2 / 1.2e6 / speed)

    paces = {("efficientnet_lite0", s): {size: pace(s, size) for size in (64, 128)} for s in EVERY}
    return Machine(at_once=at_once, start=60, trial=1, paces=paces)


def pictures(train: int = 300, side: int = 500) -> list[Pictures]:
    return [Pictures(dataset="folder:/images", train=train, val=train // 3, test=train // 3, classes=6, side=side)]


def chosen(hours: float, images: list[Pictures] | None = None, m: Machine | None = None, **options) -> Choice:
    images = images or pictures()
    return choose(ladder(images, ["efficientnet_lite0"], sizes(images, 224), **options), images, m or machine(), hours)


HOURS = [0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 4, 8, 16, 40, 1000]


@pytest.mark.parametrize("train", [60, 300, 5000])
@pytest.mark.parametrize("speed", [0.5, 3, 50])
def test_more_hours_never_give_less_and_none_costs_more_than_was_given(train: int, speed: float) -> None:
    images, m, before = pictures(train), machine(speed), None
    for hours in HOURS:
        try:
            choice = chosen(hours, images, m)
        except ConfigError:
            assert before is None, "what fitted into fewer hours fits into more"
            continue
        study = choice.study
        assert cost_of(study, images, m).hours <= hours
        assert study.confirm_seeds >= SEEDS and study.confirm_seeds >= study.searches
        assert {"linear_probe", "partial", "full"} <= {c.strategy for c in study.cells}
        if before is not None:
            for rises in (
                lambda s: s.protocol.max_epochs,
                lambda s: s.protocol.image_size,
                lambda s: s.trials,
                lambda s: s.searches,
                lambda s: s.confirm_seeds,
                lambda s: len(s.cells),
            ):
                assert rises(study) >= rises(before)
        before = study
    assert before is not None, "a thousand hours hold something"


def test_a_faster_machine_and_more_at_once_never_give_less() -> None:
    taken = [chosen(2, m=machine(speed)).taken for speed in (0.5, 1, 2, 5, 20)]
    assert taken == sorted(taken) and taken[0] < taken[-1]
    assert chosen(2, m=machine(at_once=8)).taken > chosen(2, m=machine(at_once=1)).taken


def test_time_buys_a_fair_search_then_pixels_then_searches_then_strategies() -> None:
    rungs = [s for s, _ in chosen(1000).rungs]
    order = ["max_epochs", "trials", "image_size", "searches", "strategies"]
    seen: list[str] = []
    for a, b in zip(rungs, rungs[1:], strict=False):
        changed = {
            "max_epochs": a.protocol.max_epochs != b.protocol.max_epochs,
            "trials": a.trials // a.searches != b.trials // b.searches,
            "image_size": a.protocol.image_size != b.protocol.image_size,
            "searches": a.searches != b.searches,
            "strategies": len(a.cells) != len(b.cells),
        }
        (name,) = [n for n, c in changed.items() if c]
        seen.append(name)
    assert list(dict.fromkeys(seen)) == order and seen == sorted(seen, key=order.index)


def test_hours_that_cannot_hold_say_which_would() -> None:
    with pytest.raises(ConfigError, match=r"--hours [\d.]+\.$") as refused:
        chosen(0.01)
    told = float(str(refused.value).rsplit(" ", 1)[1].rstrip("."))
    assert chosen(told).taken == 0 and "\n" not in str(refused.value)
    assert [enough(h) for h in (0.31, 0.3, 2.31, 37.2)] == [0.4, 0.3, 2.4, 38]


def test_sizes_stop_at_the_images_own_and_the_networks() -> None:
    assert sizes(pictures(side=500), 224) == (64, 96, 128, 160, 192, 224)
    assert sizes(pictures(side=100), 224) == (64, 96, 128)
    assert sizes(pictures(side=8), 224) == (64,)
    assert sizes(pictures(side=3000), 384)[-1] == 384


def test_few_images_get_small_batches_and_many_epochs() -> None:
    assert [batch_size(pictures(n)) for n in (40, 200, 5000)] == [8, 16, 32]
    assert set(BATCHES) == {8, 16, 32}
    few, many = chosen(1000, pictures(60)).study.protocol, chosen(1000, pictures(20_000)).study.protocol
    assert few.max_epochs == 20 and many.max_epochs == 5 and few.views == 20


def test_what_is_given_stays_and_the_rest_is_chosen_around_it() -> None:
    def settle(study: Study) -> Study:
        return narrow(study, image_size=96, max_epochs=3, trials=10)

    choice = chosen(1000, settle=settle)
    study = choice.study
    assert (study.protocol.image_size, study.protocol.max_epochs, study.trials) == (96, 3, 10)
    assert study.protocol.views == 3 and study.grace_epochs == 1
    assert study.searches == 5 and len(study.cells) == 5, "three searches cannot share ten trials, five can"
    assert {why for what, _, why in reasons(choice, pictures(), machine(), 224, frozenset({"image_size"})) if what == "image_size"} == {
        "given"
    }


def test_a_size_between_two_measured_ones_goes_by_pixels() -> None:
    cell = grid(["d"], ["efficientnet_lite0"], ["full"])[0]
    for size in (64, 96, 128, 224):
        assert machine().pace(cell, size).train == pytest.approx(size**2 / 4e5)


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


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("imag_size=224", "image_size"),
        ("image_size", "NAME=VALUE"),
        ("image_size=big", "image_size must be int"),
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


def speedy(monkeypatch) -> None:
    from study import fit, speed

    monkeypatch.setattr(speed, "measure", lambda *a: type("P", (), {"train": 0.002, "evaluate": 0.001})())
    monkeypatch.setattr(speed, "_process", lambda ray: 1.0)
    monkeypatch.setattr(speed.Speeds, "precision", lambda *a: "fp32")
    monkeypatch.setattr(fit, "LOOKED_AT", 3)


def test_a_dry_run_only_says_and_a_second_one_says_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    speedy(monkeypatch)
    monkeypatch.chdir(tmp_path)
    said = []
    for _ in range(2):
        assert sweep.main(["mine", "--datasets", "digits", "--hours", "1", "--dry-run", "--results", str(tmp_path / "r")]) == 0
        said.append(capsys.readouterr().out.split("px ...")[-1])  # after the lines that say the time
    assert said[0] == said[1] and "image_size" in said[0] and "never fewer than 5" in said[0]
    assert not (tmp_path / "my_study.py").exists() and not (tmp_path / "r").exists()
    assert sweep.main(["mine", "--datasets", "digits", "--hours", "0.001", "--dry-run", "--results", str(tmp_path / "r")]) == 2
    assert "--hours" in capsys.readouterr().err


def test_the_same_command_goes_on_with_what_was_chosen_first(tmp_path: Path, monkeypatch, capsys) -> None:
    from study import pipeline

    speedy(monkeypatch)
    monkeypatch.chdir(tmp_path)
    ran: list[Study] = []

    def conduct(study: Study, options: object, interrupted: object) -> None:
        ran.append(study)
        Ledger(tmp_path / "r", study.name).begin(study, {})
        raise ConfigError("enough")

    monkeypatch.setattr(pipeline, "conduct", conduct)
    command = ["mine", "--datasets", "digits", "--results", str(tmp_path / "r"), "--set", "confirm_seeds=6"]
    assert sweep.main([*command, "--hours", "1"]) == 2
    assert (tmp_path / "my_study.py").exists() and find_study("my_study.py") == ran[0] and ran[0].confirm_seeds == 6
    assert sweep.main([*command, "--hours", "50"]) == 2
    assert dataclasses.replace(ran[1], published={}) == ran[0], "a begun study is no other one because of other hours"
    assert sweep.main([*command[:2], "mini_faces", *command[3:]]) == 2
    assert "other images" in capsys.readouterr().err
    assert sweep.main(["mine", "--datasets", "digits", "--results", str(tmp_path / "s"), "--hours", "50"]) == 2
    assert "my_study.py holds another study" in capsys.readouterr().err


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
    for _ in range(4):
        for cell, whole in (("b", False), ("a", False), ("a", True)):
            left.done(cell, whole)
    assert left.left({}) == 0


def record(epoch: int) -> EpochRecord:
    return EpochRecord(epoch=epoch, metrics={"val/macro_f1": 0.5}, train_seconds=0.1, eval_seconds=0.1, images=9, ended_at=0.0, facts={})


def test_a_log_names_the_time_left_and_is_never_silent(monkeypatch, capsys) -> None:
    from study import progress

    monkeypatch.setattr(progress, "QUIET_S", 0.05)
    ask = Ask(trial_id="t", cell="d/official/net/full/1", number=3, stage=Stage.SEARCH, origin=Origin.RANDOM, config={}, sequence=0)
    left = Remaining(max_epochs=2)
    left.todo["d/official/net/full/1", False] = 2
    with Watch("search", 2, 0, 2, Names([ask.cell]), left) as watch:
        watch("start", ask, None)
        watch("epoch", ask, record(1))
        time.sleep(0.3)
        result = TrialResult(
            trial_id="t", outcome=Outcome.COMPLETED, reason="", epochs=2, best_epoch=1, metrics={"val/macro_f1": 0.5}, classes=[], val=None,
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
    from study import progress

    with busy("nothing"):
        pass
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "QUIET_S", 0.05)
    with busy("starting Ray on 2 cores", announced=True):
        time.sleep(0.2)
    first, *again = capsys.readouterr().out.splitlines()
    assert first.endswith("starting Ray on 2 cores ...") and again and all("starting Ray on 2 cores, for" in line for line in again)


def test_a_study_begun_knows_what_is_left(tmp_path: Path) -> None:
    from study.stages import remaining

    study = dataclasses.replace(QUICKSTART, explain=("memorisation",))
    ledger = Ledger(tmp_path, study.name)
    ledger.begin(study, {})
    left = remaining(study, ledger)
    assert sum(left.todo.values()) == len(study.cells) * (4 + 5 + 5) and left.left({}) is None


def test_weights_are_known_by_their_files_names(tmp_path: Path) -> None:
    from study.networks.weights import names_in

    for name in ("resnet50_imagenet.safetensors", "mobilenetv2_100-a.b.pth", "efficientnet_lite0.pt", "resnet50.txt", "unheard_of.pth"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["efficientnet_lite0", "mobilenetv2_100", "resnet50"]
    assert names_in(tmp_path / "nowhere") == []
