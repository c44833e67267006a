"""Impossible numbers are refused in one line where the value is made, whatever field or option they are given to."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import report
from cluster import preflight
from study import deliver, demo, predict, sweep
from study.bounds import BOUNDS, bound_of, check
from study.errors import ConfigError
from study.label import __main__ as label
from study.question.cell import Cell, grid
from study.question.studies import narrow
from study.question.studies import settings as told
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.records import dumps
from study.space import Log, Uniform
from study.storage.options import Options
from study.strategies import EVERY
from study.tracking import __main__ as tracking
from study.trial import parse_trial

CELLS = grid(["digits"], ["resnet18"], ["partial"])
MAKE: dict[str, Callable[..., Any]] = {
    "Study": lambda **f: Study(name="s", cells=CELLS, **f),
    "Protocol": Protocol,
    "Recipe": Recipe,
    "Cell": lambda **f: Cell(dataset="digits", backbone="resnet18", strategy="partial", **f),
    "TrialConfig": lambda **f: TrialConfig(cell=CELLS[0], strategy=EVERY["partial"](), **f),
    **EVERY,
}
CLASSES: dict[str, type] = {"Study": Study, "Protocol": Protocol, "Recipe": Recipe, "Cell": Cell, "TrialConfig": TrialConfig, **EVERY}
NUMBERS = [
    (name, field.name, typing.get_type_hints(cls)[field.name] is int)
    for name, cls in CLASSES.items()
    for field in dataclasses.fields(cls)
    if typing.get_type_hints(cls)[field.name] in (int, float)
]
NEVER: tuple[Any, ...] = (math.nan, -math.inf, -1, -1e-9, True, False, "1", "", None, [], 1j, 10**400, -(2**63))
NEVER_WHOLE: tuple[Any, ...] = (0.5, 1.5, 1e300, math.inf, 1e-300, 10**12, 2**63, 10**20)


def test_every_number_has_a_bound() -> None:
    assert {field for _, field, _ in NUMBERS} <= BOUNDS.keys() and len(NUMBERS) > 60
    for owner, field, whole in NUMBERS:
        assert BOUNDS[bound_of(owner, field)].whole == whole, field


@pytest.mark.parametrize(("name", "field", "whole"), NUMBERS, ids=lambda v: str(v))
def test_no_field_takes_what_is_no_such_number(name: str, field: str, whole: bool) -> None:
    """Every number of every value is tried with everything that is none.

    It is refused in a line that names the field, or it is a limit that is off (infinity).
    """
    for value in (*NEVER, *(NEVER_WHOLE if whole else ())):
        if value == 10**400 and BOUNDS[field].infinite:
            continue
        with pytest.raises(ConfigError, match=f"{field}|searches|confirm_seeds") as refused:
            MAKE[name](**{field: value})
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    if not BOUNDS[field].infinite:
        with pytest.raises(ConfigError):
            MAKE[name](**{field: math.inf})


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_what_is_taken_is_within_bounds_and_can_be_written_down(data: st.DataObject) -> None:
    name, field, _ = data.draw(st.sampled_from(NUMBERS))
    anything = st.one_of(
        st.integers(), st.floats(), st.integers(-3, 40), st.floats(-0.5, 1.5), st.text(max_size=3), st.booleans(), st.none()
    )
    value = data.draw(anything)
    try:
        made = MAKE[name](**{field: value})
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert BOUNDS[bound_of(name, field)].refusal(field, value) == "" and not isinstance(value, bool | str)
    assert dumps(made.as_dict() if hasattr(made, "as_dict") else dataclasses.asdict(made))


@given(
    st.sampled_from(sorted({f for _, f, _ in NUMBERS})), st.one_of(st.integers(), st.floats(allow_nan=True)).map(str) | st.text(max_size=8)
)
@settings(max_examples=300, deadline=None)
def test_what_a_command_line_sets_is_taken_or_refused_in_one_line(field: str, text: str) -> None:
    for take in (
        lambda: narrow(Study(name="s", cells=CELLS), **told([f"{field}={text}"])),
        lambda: parse_trial("digits/resnet18/partial", [f"{field}={text}"]),
    ):
        try:
            take()
        except ConfigError as error:
            assert "\n" not in str(error)


SEEDS = [(-1, False), (0, True), (2**32 - 1, True), (2**32, False), (2**63, False), (10**20, False), ("1.5", False), ("nan", False)]


@pytest.mark.parametrize(("seed", "fits"), SEEDS)
def test_seeds_are_whole_numbers_of_32_bits(seed: object, fits: bool) -> None:
    """Others raised OverflowError and ValueError in the middle of a trial."""
    if fits:
        assert parse_trial("digits/resnet18/partial", [f"seed={seed}"]).seed == seed
        return
    for take in (lambda: parse_trial("digits/resnet18/partial", [f"seed={seed}"]),
        lambda: told([f"seed={seed}"]) and narrow(Study(name="s", cells=CELLS), **told([f"seed={seed}"]))):  # fmt: skip
        with pytest.raises(ConfigError, match="seed must be"):
            take()


@pytest.mark.parametrize("field", ["max_epochs", "views", "min_steps"])
@pytest.mark.parametrize("factor", [2, 3, 1_000])
def test_a_longer_confirmation_is_within_bounds_too(field: str, factor: int) -> None:
    """Otherwise the winners' own configurations would be refused after the search."""
    most = int(BOUNDS[field].high)
    fits = {"max_epochs": 1, "views": 1, "min_steps": 1} | {field: most // factor}
    Study(name="s", cells=CELLS, protocol=Protocol(**fits), budget_check=factor, longest=factor)
    with pytest.raises(ConfigError, match=f"{field} at {factor} times its number must be at most"):
        Study(name="s", cells=CELLS, protocol=Protocol(**{**fits, field: most // factor + 1}), budget_check=factor, longest=factor)


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("partial.lr", Log(1e-5, 1e300)),
        ("recipe.weight_decay", Log(1e-6, 1e200)),
        ("recipe.label_smoothing", Uniform(0.0, 1.0)),
        ("partial.unfreeze_depth", Uniform(0.5, 2.5)),
        ("recipe.augmentation", Uniform(-1.0, 1.0)),
    ],
    ids=str,
)
def test_a_range_that_no_trial_could_be_given_is_refused(key: str, domain: Any) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Study(name="s", cells=CELLS, space={key: domain})


OPTIONS = {"cpus_per_worker": False, "gpus_per_trial": False, "concurrent": True}


@pytest.mark.parametrize(("option", "value"),
    [*itertools.product(OPTIONS, (math.nan, math.inf, -math.inf, -1, 1e9)), ("cpus_per_worker", 0), ("concurrent", 0),
        ("concurrent", 1.5), ("gpus_per_trial", 1.5), ("gpus_per_trial", "all")])  # fmt: skip
def test_what_a_study_runs_on_is_a_number_that_can_be(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')} must be"):
        Options(**{option: value})


@pytest.mark.parametrize("scheme", ["ftp", "s3", "gopher", "htp", "ws"])
def test_an_address_that_is_no_server_of_mlflow_is_refused(scheme: str) -> None:
    for uri in ("off", "sqlite:///x.db", "postgresql+psycopg2://h/d", "HTTP://h:1", "http://h", None):
        Options(mlflow=uri)
    with pytest.raises(ConfigError, match=f"--mlflow {scheme}://... is no address of MLflow"):
        Options(mlflow=f"{scheme}://host/x")


COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str], tuple[str, ...]]] = {
    "sweep": (sweep.main, ["quickstart", "--dry-run"],
        ("--cpus-per-worker", "--gpus-per-trial", "--concurrent", "--max-failed", "--trials", "--searches", "--confirm-seeds",
            "--workers")),
    "mine": (sweep.main, ["mine", "--datasets", "digits", "--dry-run"], ("--hours", "--concurrent")),
    "deliver": (deliver.main, ["nowhere"], ("--hours",)),
    "demo": (demo.main, ["nowhere"], ("--port", "--images")),
    "predict": (predict.main, ["nowhere", "x.png"], ("--batch",)),
    "label": (label.main, ["nowhere", "pictures"], ("--most", "--among")),
    "report": (report.main, ["nowhere"], ("--margin", "--price-per-hour")),
    "preflight": (preflight.main, ["--results", "r"], ("--nodes", "--wait")),
}  # fmt: skip
WRONG = [
    (c, o, v)
    for c, (_, _, options) in COMMANDS.items()
    for o in options
    for v in ("-1", "nan", "inf", "1000000000000")
    if (c, v) != ("deliver", "inf")
]


@pytest.mark.parametrize(("command", "option", "value"), WRONG)
def test_options_that_cannot_be_end_in_one_line_and_code_2(
    command: str, option: str, value: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    main, arguments, _ = COMMANDS[command]
    monkeypatch.chdir(tmp_path)
    try:
        code = main([*arguments, option, value])
    except SystemExit as ended:  # argparse's own: no whole number
        code = int(ended.code or 0)
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and option.removeprefix("--").replace("-", "_") in " ".join(said).replace("-", "_") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    ["folds=0", "folds=-2", "views=1000000000", "batch_size=1000000000000", "min_steps=1000000000", "image_size=100000", "seed=-1"],
)  # fmt: skip
def test_a_dry_run_refuses_settings_that_cannot_be(given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without that, the whole search was trained, and then there was no verdict."""
    assert sweep.main(["quickstart", "--set", given, "--dry-run", "--results", str(tmp_path)]) == 2
    assert given.partition("=")[0] in (said := capsys.readouterr().err) and said.count("\n") == 1


@pytest.mark.parametrize("command", [["sync", "nowhere"], ["fetch", "nowhere"]])
def test_tracking_refuses_an_address_that_is_none(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking.main([*command, "--mlflow", "ftp://x"]) == 2
    assert "no address of MLflow" in capsys.readouterr().err


def test_a_refusal_names_the_value_the_rule_and_what_an_end_means() -> None:
    with pytest.raises(ConfigError, match=r"^grad_clip must be > 0 \(inf = off\), not -1\.$"):
        check("grad_clip", -1)
    with pytest.raises(ConfigError, match=r"^--batch must be at most 100,000, not 1000000\.$"):
        check("batch", 10**6, "--batch")
