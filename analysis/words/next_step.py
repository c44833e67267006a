"""The one thing to do next, the command that does it, and its cost."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.data.axes import PIXELS, STEPS
from analysis.data.frames import Frames
from analysis.data.predictions import Predictions
from analysis.data.question import Question
from analysis.findings.answers import Ranking
from analysis.findings.budget_check import beyond
from analysis.findings.pick import Pick
from analysis.findings.short import LONGER
from analysis.findings.too_few_pixels import small
from analysis.findings.verdict_pairs import Pair
from analysis.statistics.collapse import ENOUGH_RUNS
from analysis.statistics.resampling import ENOUGH_SEEDS
from analysis.words.commands import allow, extend, larger, longer, repeat
from analysis.words.steps import further
from study.console.text import shown
from study.metrics import counts, f1
from study.scoring.metric import DEFAULT
from study.strategies import LINES

DRAWN = 60  # pictures to label at once


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """The next thing to do. `price` is in words, and `command` is empty where no command does it."""

    text: str
    command: str = ""
    price: str = ""

    @property
    def lines(self) -> str:
        """Return the step on one line: what to do, what it costs and the command."""
        cost = f" Cost: {self.price}." if self.price else ""
        return f"{self.text}{cost}{f' Run: {self.command}' if self.command else ''}"


def next_step(frames: Frames, question: Question, ranking: Ranking | None, pick: Pick | None, settled: bool) -> NextStep:
    """Return the first of these that applies: finish the study, train longer, make the strategies comparable, train on larger images,
    add repeats, collect images.

    Where the answer is `settled`, the choices are longer training of the winner, larger images, or using the network.
    """
    if frames.in_progress:
        return _finish(frames)
    if ranking is None:
        return _confirm(frames, question)
    if settled:
        return _longer(frames, question, ranking) or _larger(frames, question) or use(frames, pick)
    return (
        _longer(frames, question, ranking)
        or _comparable(frames, question, ranking)
        or _larger(frames, question, ranking)
        or _repeats(frames, ranking)
        or _labels(frames, ranking, pick)
        or _images(frames, pick)
    )


def use(frames: Frames, pick: Pick | None) -> NextStep:
    """Return the step that predicts a folder of images with the network.

    It has no command where the network does not lie here, as in a study read from MLflow.
    """
    if pick is None or not _lies_here(frames, pick):
        return NextStep(text="Use the network. It lies where the study ran, not here.")
    command = f"python -m study.predict {_source(frames, pick)} FOLDER --csv predictions.csv"
    return NextStep(
        text="Use the trained network: it names the images of a folder. Write your folder in place of FOLDER.",
        command=command,
        price="seconds",
    )


def _lies_here(frames: Frames, pick: Pick) -> bool:
    return frames.ledger.folder.exists(f"trials/{pick.trial}/best/manifest.json")


def _source(frames: Frames, pick: Pick) -> str:
    """Return the study as a command takes it, with the data set behind a colon where it asks on several."""
    several = len({(c.dataset, c.split_protocol) for c in frames.study.cells}) > 1
    return shlex.quote(frames.ledger.folder.location + (f":{pick.of}" if several else ""))


def _finish(frames: Frames) -> NextStep:
    done, whole = trainings(frames)
    left = max(whole - done, 0)
    if whole and not left:
        return NextStep(text="Let the study finish: only its last steps are left.", command=_resume(frames))
    price = f"{left} more training{'s' * (left != 1)}" + (f", {lasting(left * each)}" if (each := seconds_of_one(frames)) and left else "")
    return NextStep(text="Let the study finish. If it was stopped, this resumes it.", command=_resume(frames), price=price)


def _resume(frames: Frames) -> str:
    return f"python -m study.sweep {shlex.quote(frames.ledger.folder.location)}"


def _confirm(frames: Frames, question: Question) -> NextStep:
    """Return the step for a question where no two strategies can be compared on test images."""
    study = frames.study
    if len({c.strategy for c in frames.asked(question)}) < 2:
        return NextStep(text="To compare, ask for a second strategy (for example partial) and run the study again.")
    if not frames.facts.get("finished_at") or not len(frames.trials) or not frames.chosen:
        return NextStep(text="See on the page why trials failed or diverged, then run the study again.", command=_resume(frames))
    if study.confirm_seeds < 2:
        more = ENOUGH_SEEDS - study.confirm_seeds
        runs = more * len(frames.asked(question))
        text = f"Confirm with {ENOUGH_SEEDS} seeds. Only confirm runs see the test images."
        return NextStep(text=text, command=extend(frames, ENOUGH_SEEDS), price=_runs(frames, question, runs))
    return _finish(frames)


def _longer(frames: Frames, question: Question, ranking: Ranking) -> NextStep | None:
    """Return the step that trains longer where a strategy was cut short, or None. A winner that was cut short may gain too."""
    if not ranking.short:
        return None
    if epochs := further(frames, question, STEPS):
        return NextStep(text=f"Look at this study's answer at {epochs} epochs: here training was too short.")
    gains = {s: v for (q, s), v in beyond(frames).items() if q == question}
    if ranking.cut_short and all(s.strategy in gains for s in ranking.cut_short):
        factor, epochs = max(gains.values())
        text = f"Train all strategies for {epochs} epochs: longer training gained on validation images."
        return NextStep(text=text, command=allow(frames, factor), price=_times(frames, question, factor, confirm=True))
    if question.max_epochs:
        longer_yet = LONGER * frames.asked(question)[0].budget
        text = f"Train {LONGER} times as long: add {longer_yet} to the budgets of this study, and run it again."
        return NextStep(text=text, price=_times(frames, question, LONGER))
    return NextStep(text=f"Train {LONGER} times as long, as a new study.", command=longer(frames), price=_times(frames, question, LONGER))


def _comparable(frames: Frames, question: Question, ranking: Ranking) -> NextStep | None:
    """Return the step that makes strategies comparable where something forbids to name a winner, or None."""
    if len(ranking.comparable) > 1 or not ranking.reasons:
        return None
    pairs = ranking.between(ranking.ranked)
    if any(p.small_classes for p in pairs):
        return NextStep(text="Collect test images until each class has ten, or merge the small classes.")
    if any("collapsed" in r for r in ranking.reasons):
        seeds = max(ENOUGH_RUNS, frames.study.confirm_seeds)
        text = f"Repeat with {seeds} seeds. They tell how often a run fails by bad luck."
        return NextStep(text=text, command=extend(frames, seeds), price=_more_seeds(frames, question, seeds - frames.study.confirm_seeds))
    if any("of its range" in r for r in ranking.reasons):
        return NextStep(
            text="Widen the range of the learning rate (Study.space), and run it as a new study.", price=_times(frames, question, 1)
        )
    return None


def _larger(frames: Frames, question: Question, ranking: Ranking | None = None) -> NextStep | None:
    fewer = ranking.fewer.values() if ranking else ()
    found = small(frames, question) or next((f.sizes for f in fewer), None)
    if found is None:
        return None
    if further(frames, question, PIXELS):
        return NextStep(text=f"Look at this study's answer at {further(frames, question, PIXELS)} px: larger images may decide it.")
    text = f"Train at {found.larger} px. Your images have {found.images} px, and this study trained at {found.trained}."
    price = _times(frames, question, found.times)
    if question.image_size:
        return NextStep(text=f"{text} Add {found.larger} to the image_sizes, and run it again.", price=price)
    return NextStep(text=text, command=larger(frames, found.larger), price=price)


def _repeats(frames: Frames, ranking: Ranking) -> NextStep | None:
    """Return the step that adds seeds or searches where they would decide with 80 % probability, or None."""
    for pair in _open(ranking):
        if pair.one_run:
            seeds = max(frames.study.confirm_seeds + 1, ENOUGH_SEEDS)
            text = f"Repeat with {seeds} seeds."
            return NextStep(
                text=text, command=extend(frames, seeds), price=_more_seeds(frames, pair.question, seeds - frames.study.confirm_seeds)
            )
        needs = {n.resource: n.more for n in pair.needs if n.more is not None}
        if more := needs.get("run"):
            more *= pair.estimate.searches if pair.estimate.unit == "search" else 1
            text = f"Repeat with {more} more seed{'s' * (more > 1)}. That decides it in 4 of 5 cases."
            command = extend(frames, frames.study.confirm_seeds + more)
            return NextStep(text=text, command=command, price=_more_seeds(frames, pair.question, more))
        if more := needs.get("search"):
            searches = frames.study.searches + more
            text = f"Repeat the search: {searches} searches decide it in 4 of 5 cases."
            factor = searches / frames.study.searches
            return NextStep(text=text, command=repeat(frames, searches), price=_times(frames, pair.question, factor))
    return None


def _open(ranking: Ranking) -> Sequence[Pair]:
    return [ranking.pairs[ranking.standing[0], other] for other in ranking.standing[1:]]


def _labels(frames: Frames, ranking: Ranking, pick: Pick | None) -> NextStep | None:
    """Return the step that draws pictures to label, or None where that is not for this study (study.label says of which), or where its
    networks do not lie here."""
    if ranking.mark != "open" or frames.scored_by.key != DEFAULT.key or frames.study.folds > 1:
        return None
    test = _tested(frames, pick)
    if pick is None or test is None or test.several or not _lies_here(frames, pick):
        return None
    text = (
        f"More repeats will not settle it, more labels may. {_weakest(frames, pick, test)} "
        "Write your folder of new pictures in place of FOLDER."
    )
    return NextStep(
        text=text, command=f"python -m study.label {_source(frames, pick)} FOLDER --most {DRAWN}", price="minutes, and your labels"
    )


def _images(frames: Frames, pick: Pick | None) -> NextStep:
    """Return the step that collects images of the worst predicted class, where repeats would not settle the question."""
    test = _tested(frames, pick)
    if pick is None or test is None:
        return NextStep(text="More repeats will not settle it. More images of your classes might.")
    return NextStep(
        text=f"More repeats will not settle it. {_weakest(frames, pick, test)} Collect more of it, and run the study on all images."
    )


def _tested(frames: Frames, pick: Pick | None) -> Predictions | None:
    """Return what the network says of the test images, or None where it was not confirmed."""
    return frames.predictions(pick.trial).get("test") if pick is not None and pick.confirmed else None


def _weakest(frames: Frames, pick: Pick, test: Predictions) -> str:
    """Return a sentence about the class that the network predicts worst."""
    names = frames.classes[pick.cell.id]
    found = counts(test.named, test.labels, len(names))
    scores = np.where(found.truth > 0, f1(found), np.inf)
    worst = int(scores.argmin())
    images = int(found.truth[worst])
    return f"The class {shown(names[worst])} scores lowest ({100 * scores[worst]:.0f} points on {images} test image{'s' * (images != 1)})."


# ---- what it costs --------------------------------------------------------------------------------------------


def lasting(seconds: float) -> str:
    """Return a duration as people say it: "48 seconds", "7 minutes", "2.3 hours"."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.2g} hours" if seconds < 100 * 3600 else f"about {seconds / 86400:.2g} days"


def trainings(frames: Frames) -> tuple[int, int]:
    """Return (trainings that ended, trainings that the study plans), with searches and confirm runs."""
    study, t = frames.study, frames.trials
    plan = len(study.cells) * (study.trials + study.confirm_seeds)
    if not len(t):
        return 0, plan
    own = t[t["cell"].isin([c.id for c in study.cells]) & t["stage"].isin(["search", "confirm"])]
    return int((own["outcome"] != "running").sum()), plan


def seconds_of_one(frames: Frames) -> float:
    """Return the median seconds of a training that ended, or 0 where none did. Once confirm runs have ended it is theirs: what is left is
    of their kind, at their pixels."""
    t = frames.trials
    if not len(t):
        return 0.0
    done = t[(t["outcome"] != "running") & ~t["strategy"].isin(LINES)]
    confirmed = done[done["stage"] == "confirm"]
    seconds = (confirmed if len(confirmed) else done)["seconds"].dropna()
    return float(seconds.median()) if len(seconds) else 0.0


def _seconds(frames: Frames, question: Question, confirm: bool = False) -> float:
    """Return the seconds that the question's trainings took, one after the other."""
    t = frames.trials
    own = t[t["cell"].isin([c.id for c in frames.asked(question)])] if len(t) else t
    if confirm and len(own):
        own = own[own["stage"] == "confirm"]
    return float(own["seconds"].sum()) if len(own) else 0.0


def _times(frames: Frames, question: Question, factor: float, confirm: bool = False) -> str:
    took = _seconds(frames, question, confirm)
    what = f"about {factor:.2g} times the compute of this study" if factor != 1 else "as much compute as this study"
    return f"{what}, {lasting(factor * took)}" if took else what


def _more_seeds(frames: Frames, question: Question, seeds: int) -> str:
    return _runs(frames, question, seeds * len(frames.asked(question)))


def _runs(frames: Frames, question: Question, runs: int) -> str:
    took, t = 0.0, frames.trials
    if len(t):
        own = t[t["cell"].isin([c.id for c in frames.asked(question)])]
        confirm = own[own["stage"] == "confirm"]
        took = float((confirm if len(confirm) else own)["seconds"].mean())
    return f"{runs} more training{'s' * (runs != 1)}" + (f", {lasting(runs * took)}" if took == took and took > 0 else "")
