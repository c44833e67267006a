"""Commands that ask for more of a study, or for the same in another way.

They are made from the arguments that the study was begun with, kept as data, with some of them changed.
"""

import re
import shlex
from collections.abc import Mapping

from analysis.data.frames import Frames
from analysis.findings.short import LONGER
from analysis.findings.too_few_pixels import STEP
from study.console.arguments import assigned
from study.question.studies import AS_OPTIONS, MINE

HOW = (
    *("--data", "--weights", "--mlflow", "--track", "--address", "--cpus-per-worker", "--gpus-per-trial", "--concurrent", "--max-failed"),
    *("--local", "--ray", "--no-images", "--strict-tracking"),
)
"""Options of a sweep that do not change the question."""
MOST_LETTERS = 64  # of a study's name

Arguments = dict[str, list[str]]
"""Arguments of a sweep: the values by option, and under `study` the study itself."""


def extend(frames: Frames, confirm_seeds: int) -> str:
    """Return the command that runs more fresh seeds of this study.

    With outer folds the number is rounded up to whole passes, each with searches of its own.
    """
    study = frames.study
    if study.folds == 1:
        return _command(frames, {"confirm_seeds": confirm_seeds})
    searches = -(-confirm_seeds // study.folds) * study.folds
    trials, random_trials = (n * searches // study.searches for n in (study.trials, study.random_trials))
    return _command(frames, {"searches": searches, "trials": trials, "confirm_seeds": searches, "random_trials": random_trials})


def repeat(frames: Frames, searches: int) -> str:
    """Return the command that asks the same with `searches` independent searches of the present size, as a study of another name."""
    study = frames.study
    sizes = {n: -(-getattr(study, n) // study.searches) * searches for n in ("trials", "random_trials", "confirm_seeds")}
    return _command(frames, {"name": f"{study.name}-{searches}-searches", "searches": searches, **sizes})


def longer(frames: Frames) -> str:
    """Return the command that asks the same with `LONGER` times the epochs.

    Whatever is counted in epochs grows with them: stored views, one per epoch, and steps.
    """
    p = frames.study.protocol
    settings = {"max_epochs": LONGER * p.max_epochs}
    if p.views >= p.max_epochs:
        settings["views"] = settings["max_epochs"]
    if p.min_steps:
        settings["min_steps"] = LONGER * p.min_steps
    return _command(frames, _named_anew(frames, f"{settings['max_epochs']}-epochs"), settings)


def larger(frames: Frames, pixels: int) -> str:
    """Return the command that asks the same at images of `pixels` a side, as a study of another name.

    A study that confirms at more pixels than it searches at goes on so, at half of them or more.
    """
    study, name = frames.study, _named_anew(frames, f"{pixels}-px")
    if not study.confirm_size:
        return _command(frames, name, {"image_size": pixels})
    searched = max(study.protocol.image_size, -(-pixels // (2 * STEP)) * STEP)
    return _command(frames, name | {"confirm_size": pixels}, {"image_size": searched})


def _named_anew(frames: Frames, what: str) -> dict[str, object]:
    """Return the name of a study that asks the same in another way, with `what` at its end in place of an earlier one of its kind."""
    kind = what.partition("-")[2]
    base = re.sub(rf"-\d+-{kind}$", "", frames.study.name)
    return {"name": f"{base[: MOST_LETTERS - len(what) - 1]}-{what}"}


def allow(frames: Frames, longest: int) -> str:
    """Return the command that confirms the study at `longest` times its epochs."""
    return _command(frames, {"longest": longest}, by_folder=True)


def _command(frames: Frames, fields: Mapping[str, object], protocol: Mapping[str, int] | None = None, *, by_folder: bool = False) -> str:
    """Return the command that runs the study with these `fields` of it and of its `protocol` instead of its own.

    With `by_folder` it names the study by its folder, however it was begun.
    """
    changed = {**fields, **(protocol or {})}
    asked = _asked(frames)
    if asked is None:
        inside = _named(fields)
        if protocol:
            inside += f", protocol=dataclasses.replace(STUDY.protocol, {_named(protocol)})"
        return f"run_study(dataclasses.replace(STUDY, {inside}))"
    if by_folder:
        asked = _by_folder(asked, frames.study.name)
    options = {f"--{name.replace('_', '-')}": [str(value)] for name, value in changed.items() if name in AS_OPTIONS}
    was_set = {name: value for name, value in assigned(asked.get("--set", [])).items() if name not in changed}
    is_set = was_set | {name: value for name, value in changed.items() if name not in AS_OPTIONS}
    kept = {option: values for option, values in asked.items() if option not in ("study", "--set", *options)}
    lines = [asked.get("study", []), *([option, *values] for option, values in {**kept, **options}.items())]
    if is_set:
        lines.append(["--set", *(f"{name}={value}" for name, value in is_set.items())])
    return f"python -m study.sweep {shlex.join(word for line in lines for word in line)}"


def _named(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())


def _asked(frames: Frames) -> Arguments | None:
    """Return the arguments that ask for the study as it is now, or None for a study that Python started.

    They are those it was begun with. They name its folder where those are not known or no longer ask for it: it has grown, or was
    chosen for hours, which would choose anew.
    """
    told = frames.facts.get("arguments")
    if told is None:
        by_python = "study.sweep" not in frames.facts.get("command", "study.sweep")
        return None if by_python else _by_folder({}, frames.study.name)
    arguments = {option: values for option, *values in told}
    grown = any(not a.get("beside") for a in frames.amendments)  # what was labelled afterwards changes no question
    return _by_folder(arguments, frames.study.name) if grown or arguments.get("study") == [MINE] else arguments


def _by_folder(arguments: Arguments, name: str) -> Arguments:
    """Return the arguments that name the study by its folder. Options of how it is run stay."""
    (asked,) = arguments.get("study", [""])
    by_another = "/" in asked and not asked.partition(":")[0].endswith(".py")  # begun with what another study's folder holds
    (results,) = arguments.get("--results", [asked.rstrip("/").rpartition("/")[0] if by_another else "results"])
    return {"study": [f"{results.rstrip('/')}/{name}"]} | {option: values for option, values in arguments.items() if option in HOW}
