"""A study from Python: run one, or open one that was run, and what it found as frames, figures and a network to use."""

import functools
import html
import os
from typing import TYPE_CHECKING, Literal

import pandas as pd

from analysis.figures import FIGURES
from analysis.findings.pick import Pick, find_pick, lost_choice, pick_row, why_nothing
from analysis.load import Frames, load
from analysis.page.card import cards_html
from analysis.page.model_card import model_card
from analysis.verdict import Findings, findings
from analysis.why.explanations import why_rows
from analysis.words.answer import Answer
from analysis.words.next_step import NextStep
from study.console.progress import load as load_modules
from study.console.signals import interruptible
from study.errors import ConfigError, nearest
from study.question.config import Cell, Study
from study.question.studies import find_study
from study.storage.options import Options
from study.tracking.ledger import Ledger, placed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from study.use.predictor import Predictor


class Results:
    """What is known of a study. Scores are shares in [0, 1]; frames are read once, when first asked for."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    @property
    def study(self) -> Study:
        """The question, as it has grown."""
        return self.frames.study

    @property
    def folder(self) -> str:
        """The study's own folder, a path or a URL."""
        return self.frames.ledger.folder.location

    @property
    def in_progress(self) -> bool:
        """Whether something is left to run: what is said so far may change."""
        return self.frames.in_progress

    @functools.cached_property
    def findings(self) -> Findings:
        """Everything the report says, as tables and sentences."""
        return findings(self.frames)

    @property
    def answers(self) -> list[Answer]:
        """The answer at a glance, one a data set: what to do, how sure it is, what it scores and rests on, and the next step."""
        return self.findings.answers

    @property
    def answer(self) -> Answer:
        """That of the study's only data set. Raises ConfigError where there are several: `answers` has them."""
        if len(self.answers) > 1:
            names = ", ".join(a.dataset for a in self.answers)
            raise ConfigError(f"{self.study.name} asks on {len(self.answers)} data sets ({names}); use results.answers.")
        return self.answers[0]

    @property
    def next_step(self) -> NextStep:
        """What to do next about the study's only data set, with its command and price. Raises ConfigError where there are several."""
        return self.answer.next_step

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row a question: the sentence, its answer first."""
        return pd.DataFrame({"sentence": [s.text for s in self.findings.sentences]})

    @property
    def strategies(self) -> pd.DataFrame:
        """One row a strategy and metric, on test: mean, low, high (95 %), seeds."""
        return self.findings.strategies

    @property
    def pairs(self) -> pd.DataFrame:
        """One row a pair of strategies: difference in test macro-F1 with its interval, p values, verdict."""
        return self.findings.pairs

    @property
    def why(self) -> pd.DataFrame:
        """One row an explanation and measure: both strategies' means, difference with its interval, p values, verdict."""
        return why_rows(self.findings.why)

    @property
    def seeds(self) -> pd.DataFrame:
        """One row a confirm run and metric, on test."""
        return self.findings.seeds

    @property
    def advice(self) -> list[str]:
        """Which strategy with how many images, steps or pixels, one line a data set and backbone; empty where the study varies none of them."""
        return [a.text for a in self.findings.advice]

    @property
    def sizes(self) -> pd.DataFrame:
        """One row a strategy and `place` on an `axis` ("images", "steps", "pixels"): mean, low, high (95 %), seconds of a run; empty as above."""
        return self.findings.when.sizes

    @property
    def crossings(self) -> pd.DataFrame:
        """One row a pair of strategies and `axis`: where their curves cross on it, with its interval; empty as above."""
        return self.findings.when.crossings

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order of asking; searched values as hp/<name>."""
        return self.frames.trials

    @property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch: losses, metrics, distances from the start."""
        return self.frames.epochs

    @property
    def warnings(self) -> list[str]:
        """What stands on the report as a caveat, one line each."""
        return self.findings.warnings

    def figure(self, name: str) -> "go.Figure":
        """A figure of the report by name. Raises ConfigError listing them."""
        spec = {f.name: f for f in FIGURES}
        if name not in spec:
            raise ConfigError(f"No figure {name!r}; choose from {nearest(name, list(spec))}.")
        return spec[name].draw(spec[name].compute(self.frames, self.findings))

    @property
    def picks(self) -> pd.DataFrame:
        """One row a cell that has a network to use, `leads` for the one of each data set, then one for each that was `delivered`: trial,
        folder, settings, validation and test macro-F1, temperature."""
        place = self.frames.ledger.folder
        return pd.DataFrame([{**pick_row(p), "folder": place.shown(f"trials/{p.trial}")} for p in self.findings.picks])

    def pick(self, cell: Cell | str = "", *, compared: bool = False) -> Pick:
        """The network to use and what is known of it: the one that was delivered for the data set, where there is one. `cell`: a Cell, its
        id, or some of its parts ("partial", "mini_weeds/partial"); with a strategy in it, or with `compared` (also as a part: "compared"), a
        network of the comparison: of the cells that fit, the one the verdict speaks for, and of its confirm runs the one with the best
        validation macro-F1. No test score chooses. Raises ConfigError where none fits, or several data sets do."""
        wanted = cell.id if isinstance(cell, Cell) else cell
        if lost_choice(self.frames) and not any(p.delivered for p in self.findings.picks):  # else the line to beat would stand in
            raise ConfigError(why_nothing(self.frames))
        return find_pick(self.findings.picks, wanted, compared=compared, none=why_nothing(self.frames))

    def predictor(self, cell: Cell | str = "", *, ensemble: bool = False, calibrated: bool = True, compared: bool = False) -> "Predictor":
        """The pick's network as a function of images; `cell` and `compared` as in `pick`.

        `ensemble`: all confirm runs of a compared cell together, at as many times the cost (`pick(cell, compared=True).together` has what
        it brings). `calibrated`: with the temperature fitted on validation. Raises ConfigError.
        """
        from study.use.predictor import Ensemble, Predictor

        pick, ledger = self.pick(cell, compared=compared or ensemble), self.frames.ledger
        if not ensemble:
            return Predictor.from_folder(ledger.trial_folder(pick.trial), pick.temperature if calibrated else 1.0)
        if pick.folds > 1:
            raise ConfigError(
                f"{self.study.name} has outer folds: its {pick.folds} networks were tested on other images each, so no score of an ensemble is "
                "known. Leave ensemble out."
            )
        if pick.together is None:
            raise ConfigError(
                f"{pick.cell.id} has {len(pick.trials)} confirm run(s) with predictions; an ensemble needs two: leave it out."
            )
        members = [Predictor.from_folder(ledger.trial_folder(trial)) for trial in pick.trials]
        return Ensemble(members, pick.together.calibrated.temperature if calibrated else 1.0)

    def model_card(self, cell: Cell | str = "", *, compared: bool = False) -> str:
        """The pick in Markdown, from the ledger: data, training, scores with intervals, calibration, classes from the worst on, limits, the
        licence of the pretrained weights; `cell` and `compared` as in `pick`."""
        from study.networks.weights import licence_of

        pick = self.pick(cell, compared=compared)
        result = self.frames.ledger.result(pick.trial)
        source = str(result.facts.get("weights", "")) if result else ""
        return model_card(self.frames, self.findings, pick, licence_of(pick.cell.backbone, source))

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"{self.study.name} in {self.folder}{' (in progress)' if self.in_progress else ''}",
                *(a.text for a in self.answers),
                *self.advice,
            ]
        )

    def _repr_html_(self) -> str:
        """The answer of each data set as a card, as a notebook shows it."""
        return f"<h4>{html.escape(self.study.name)}</h4>{cards_html(self.answers)}"


def run_study(
    study: Study | str | os.PathLike[str],
    *,
    results: str | os.PathLike[str] = "results",
    data: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    local: bool = False,
    ray: bool = False,
    address: str | None = None,
    cpus_per_worker: float = 1.0,
    gpus_per_trial: float | Literal["auto"] | None = None,
    concurrent: int | None = None,
    mlflow: str | None = "off",
    track: str | None = None,
    images: bool = True,
) -> Results:
    """Runs a study (a value, or the name of one) to its end and returns what it found; the same call resumes, and grows a study that
    gained seeds, trials or cells. An interrupt stops it after the epoch at hand: what it returns then is in progress.

    `local`: in this process, without Ray; `ray`: on Ray; with neither, whatever is expected to end first. `mlflow`: a server's URI, None for SQLite under `results`, "off" for none; `track`: a tracker beside it, tensorboard:FOLDER. `images`: small copies of images in the results and on the report; False for private ones. Raises ConfigError,
    DataError or EnvironmentProblem, each one line with the way out.
    """
    options = Options(
        results=os.fspath(results),
        data=os.fspath(data) if data else os.environ.get("STUDY_DATA"),
        weights=os.fspath(weights) if weights else os.environ.get("STUDY_WEIGHTS"),
        local=local,
        ray=ray,
        address=address,
        cpus_per_worker=cpus_per_worker,
        gpus_per_trial=gpus_per_trial,
        concurrent=concurrent,
        mlflow=mlflow,
        track=track,
        images=images,
        command="study.run_study(...)",
    )
    if not isinstance(study, (Study, str, os.PathLike)):
        raise ConfigError(f"run_study takes a Study, the name of one or a file that holds one, not {study!r}.")
    question = study if isinstance(study, Study) else find_study(os.fspath(study))
    load_modules("study.conduct.pipeline")
    from study.conduct.pipeline import conduct

    with interruptible() as interrupted:
        ended = conduct(question, options, interrupted)
    return Results(load(ended.ledger))


def open_place(place: str) -> tuple[Results, str]:
    """A study and what is named behind a colon: RESULTS/STUDY[:CELL]. Raises ConfigError where there is no study."""
    folder, cell = placed(place)
    return Results(load(folder)), cell


def load_study(source: str | os.PathLike[str] | Ledger, study: str | None = None) -> Results:
    """A study's folder, a results folder that holds one, or an MLflow URI (URI#STUDY). Raises ConfigError where there is none."""
    return Results(load(source if isinstance(source, Ledger) else os.fspath(source), study))
