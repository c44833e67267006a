"""The network of every data set with the commands that use it, for a terminal, the page and MLflow."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.data.frames import Frames
from analysis.findings.handed import to_use
from analysis.findings.network_scores import natural
from analysis.findings.pick import Pick
from analysis.words.steps import Step
from study.scoring.metric import DEFAULT


@dataclass(frozen=True, kw_only=True)
class Use:
    """A pick, where it lies and what to do with it."""

    study: str  # its folder
    pick: Pick
    folder: str  # of its trial; its network lies in best/ there
    kept: bool  # whether it lies here: a study that was read from MLflow, or moved, has it elsewhere
    commands: tuple[Step, ...]

    @property
    def again(self) -> str:
        """Return a sentence and the way out where it was delivered before the study grew, else ""."""
        old = self.pick.outdated
        return f"{old}: to deliver anew, run python -m study.deliver {shlex.quote(self.study)} --again" if old else ""

    @property
    def why(self) -> str:
        p = self.pick
        if p.delivered is not None:
            return (
                f"{p.reason}. Validation {p.metric.words} {p.metric.shown(p.validation):.1f} before it was trained on the "
                "validation images too"
            )
        if not p.confirmed:
            return f"{p.reason}{p.among}. The search's winner, epoch {p.epoch}"
        if p.folds > 1:
            return (
                f"{p.reason}{p.among}. One of {p.folds} networks, each trained without one fold, the one with the best "
                f"validation {p.metric.words}. "
                f"The scores are those of all {p.folds}, each on its own fold (validation: mean {p.metric.shown(p.validation):.1f})"
            )
        which = (
            "its only confirm run"
            if len(p.trials) == 1
            else f"of {len(p.trials)} confirm runs the one with the best validation {p.metric.words}"
        )
        return f"{p.reason}{p.among}; {which} ({p.metric.shown(p.validation):.1f} there), epoch {p.epoch}"


def uses(frames: Frames, picks: Sequence[Pick]) -> list[Use]:
    """Return one entry per data set of the study."""
    leading = to_use(picks)
    place = frames.ledger.folder
    out = []
    for p in leading:
        name = f"trials/{p.trial}"
        source = shlex.quote(place.location + ("" if len(leading) == 1 else f":{p.of}"))
        out.append(
            Use(
                study=place.location,
                pick=p,
                folder=place.shown(name),
                kept=place.exists(f"{name}/best/manifest.json"),
                commands=(
                    Step(text="Predict a folder", command=f"python -m study.predict {source} FOLDER --csv predictions.csv"),
                    Step(
                        text="Export, with its model card",
                        command=f"python -m study.export {source} --format timm,onnx --to FOLDER --check IMAGES",
                    ),
                    Step(text="Try it in a browser", command=f"python -m study.demo {source}"),
                    Step(text="In Python", command=f"study.load_study({place.location!r}).predictor({p.of!r})"),
                ),
            )
        )
    return out


def use_lines(frames: Frames, picks: Sequence[Pick]) -> list[str]:
    """Return the lines for the end of a terminal's output: the network, where it lies, and what to do with it."""
    out = []
    for use in uses(frames, picks):
        p = use.pick
        out += [
            f"best model of {p.of}: {p.cell.strategy} on {p.cell.backbone} ({p.shown_settings}), {p.scores}"
            if p.delivered is None
            else f"delivered for {p.of}: {p.cell.strategy} on {p.cell.backbone}, {p.delivered.text}: {p.scores}",
            f"  {use.why}{f': {use.folder}/best' if use.kept else ''}",
        ]
        out += [f"  {line}" for line in (p.delivered.tried, use.again) if line] if p.delivered else []
        out += [f"  it {p.rule}"] if p.rule else []
        out += [f"  {c.text[0].lower()}{c.text[1:]}: {c.command}" for c in use.commands[:3] if use.kept]
    return out


def pick_facts(picks: Sequence[Pick], sets: Mapping[str, Mapping[str, Any]] = {}) -> list[dict[str, Any]]:
    """The picks of the data sets as plain values: what a registry is told. `sets`: by trial, the facts of its prediction sets."""
    return [
        {
            "of": p.of,
            "cell": p.cell.id,
            "trial": p.trial,
            "confirmed": p.confirmed,
            "settings": dict(p.settings),
            "validation": p.metric.natural(p.validation),
            "test": natural(p.test, p.metric) if p.test else None,
            **({} if p.metric.text == DEFAULT.text else {"metric": p.metric.text}),
            "temperature": p.temperature,
            "probabilities": p.probabilities,
            "reason": p.reason,
            **({"sets": dict(sets[p.trial])} if sets.get(p.trial) else {}),
            **({"delivered": f"Delivered: {p.delivered.text}; {p.delivered.calibration}."} if p.delivered else {}),
        }
        for p in to_use(picks)
    ]
