"""Commands that the page advises are accepted by a sweep, and ask for what the page says, however the study was started."""

import dataclasses
import itertools
import json
import shlex
from pathlib import Path

import pytest

from analysis.data.frames import Frames
from analysis.load import load
from analysis.words.commands import extend, larger, longer, repeat
from study import sweep
from study.conduct.asked import given_fields
from study.environment import environment
from study.question.studies import find_study, narrow
from study.question.study_config import Study
from study.storage.options import Options
from tests.goldens import GOLDEN, began

HOW_MANY = ("", "--confirm-seeds 3", "--confirm-seeds=3", "--confirm 3", "--set confirm_seeds=3", "--set=confirm_seeds=3")
SET = ("", "--set image_size=48", "--set image_size=48 random_trials=2")
MORE = (
    "",
    "--trials 6 --local",
    "--trials=6 --name mine-too",
    "--name=other --data '/my data'",
    "--datasets digits mini_faces --no-images",
)


def first_commands() -> list[str]:
    found = []
    for many, given, more in itertools.product(HOW_MANY, SET, MORE):
        if "--set" in many and given:
            many, given = "", f"{many.replace('=confirm', ' confirm')} {given.removeprefix('--set ')}"
        for words in ((more, many, given), (given, more, many)):
            found.append(" ".join(filter(None, ("quickstart", *words))))
    return list(dict.fromkeys(found))


def asked(command: str) -> tuple[Study, list[str]]:
    """Return (the study that a sweep would run, options of how to run it). Raises ConfigError where the sweep would refuse it."""
    args = sweep.parser().parse_args(shlex.split(command.split("study.sweep", 1)[1]))
    study = narrow(
        find_study(args.study), datasets=args.datasets, strategies=args.strategies, backbones=args.backbones, **given_fields(args)
    )
    return study, [f"{args.data} {args.local} {args.images}"]


@pytest.fixture(scope="module")
def frames() -> Frames:
    return load(GOLDEN.as_posix())


@pytest.mark.parametrize("first", first_commands())
def test_what_is_advised_asks_for_it_and_for_nothing_else(first: str, frames: Frames) -> None:
    command = f"python -m study.sweep {first}"
    study, how = asked(command)
    begun = dataclasses.replace(frames, study=study, facts={**frames.facts, **began(first)}, amendments=[])
    assert asked(extend(begun, 8)) == (dataclasses.replace(study, confirm_seeds=8), how)
    again, same = asked(repeat(begun, 2))
    sizes = {n: 2 * getattr(study, n) for n in ("trials", "random_trials", "confirm_seeds")}
    assert (again, same) == (dataclasses.replace(study, name=f"{study.name}-2-searches", searches=2, **sizes), how)
    wider, same = asked(larger(begun, 96))
    confirmed_at_96 = dataclasses.replace(study.protocol, image_size=max(study.protocol.image_size, 64)) if study.confirm_size else None
    at_96 = confirmed_at_96 or dataclasses.replace(study.protocol, image_size=96)
    assert wider == dataclasses.replace(
        study, name=f"{study.name}-96-px", protocol=at_96, confirm_size=96 if study.confirm_size else 0
    )
    assert same == how and asked(longer(begun))[0].protocol.max_epochs == 3 * study.protocol.max_epochs


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ("mine --datasets folder:x --hours 2 --no-images", "results/golden --no-images"),
        ("--hours 2 --datasets folder:x --results /out --ray mine", "/out/golden --ray"),
        ("mine --datasets folder:x --res /out --name golden --strict", "/out/golden --strict-tracking"),
        ("quickstart --results out --set confirm_seeds=3 --conc 2", "out/golden --concurrent 2"),
        ("out/golden --name golden --set max_epochs=9 --local", "out/golden --local"),
    ],
)  # fmt: skip
def test_one_that_was_chosen_or_has_grown_goes_by_its_folder(first: str, kept: str, grown: bool, frames: Frames) -> None:
    amendments = [{"at": 1.0, "changes": ["trials: 4 -> 6"], "test_open": True}] if grown else []
    begun = dataclasses.replace(frames, facts={**frames.facts, **began(first)}, amendments=amendments)
    if not grown and "mine" not in first:
        assert first.split()[0] in extend(begun, 8)
        return
    assert extend(begun, 8) == f"python -m study.sweep {kept} --confirm-seeds 8"
    told = sweep.parser().parse_args(shlex.split(repeat(begun, 2))[3:])
    assert told.study == kept.split()[0] and told.name == "golden-2-searches" and told.hours is None
    assert told.study == sweep.parser().parse_args(shlex.split(longer(begun))[3:]).study
    assert Path(told.study).name == "golden"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("pilot --local", [["study", "pilot"], ["--local"]]),
        ("--hours 0.50 mine --wei=/x --no-im", [["--hours", "0.50"], ["study", "mine"], ["--weights", "/x"], ["--no-images"]]),
        ("--set a=1 b=2 --trials 3 --set c=3", [["--set", "c=3"], ["--trials", "3"]]),
    ],
)
def test_what_was_typed_is_kept_in_full_and_as_it_counts(line: str, words: list[list[str]]) -> None:
    assert began(line)["arguments"] == words


def test_a_study_is_asked_for_whatever_stood_before_it(frames: Frames) -> None:
    """An option of several values would take its name for one more."""
    begun = dataclasses.replace(frames, facts=began("--datasets digits --confirm-seeds 3 quickstart"), amendments=[])
    assert extend(begun, 8) == "python -m study.sweep quickstart --datasets digits --confirm-seeds 8"


def test_one_whose_arguments_are_not_known_goes_by_its_folder(frames: Frames) -> None:
    begun = dataclasses.replace(frames, facts={"command": "python -m study.sweep pilot --set a"}, amendments=[])
    assert extend(begun, 8) == "python -m study.sweep results/golden --confirm-seeds 8"


def test_a_sweep_leaves_its_arguments_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    class Begun(Exception):
        pass

    def conduct(study: Study, options: Options, *_: object) -> None:
        seen.append(environment(options.command, options.arguments))
        raise Begun

    monkeypatch.setattr("study.conduct.pipeline.conduct", conduct)
    with pytest.raises(Begun):
        sweep.main(["quickstart", "--results", str(tmp_path), "--mlflow", "http://me:secret@host:1", "--set", "image_size=48"])
    arguments = [["study", "quickstart"], ["--results", str(tmp_path)], ["--mlflow", "http://me:***@host:1"], ["--set", "image_size=48"]]
    assert seen[0]["arguments"] == arguments and "secret" not in json.dumps(seen)
    assert "arguments" not in environment("study.run_study(...)")
