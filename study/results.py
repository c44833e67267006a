"""A study from Python: run one or open a finished one, and read its results as tables, figures and a network to use."""

import functools
import html
import os
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis.figures import FIGURES
from analysis.findings.choose_networks import lost_choice, why_nothing
from analysis.findings.pick import Pick, find_pick, pick_row
from analysis.findings.sets import Sets, known_sets, prediction_sets, sets_facts
from analysis.load import Frames, load
from analysis.page.card import cards_html
from analysis.page.model_card import model_card
from analysis.verdict import Findings, findings
from analysis.why.explanations import why_rows
from analysis.words.answer import Answer
from analysis.words.next_step import NextStep
from study.bounds import check
from study.console.progress import load as load_modules
from study.console.signals import interruptible
from study.console.text import shown
from study.errors import ConfigError, nearest
from study.question.cell import Cell
from study.question.studies import find_study
from study.question.study_config import Study
from study.scoring.decide import Deciding
from study.storage.folder import as_text
from study.storage.options import Options
from study.tracking.ledger import Ledger, placed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from study.use.predictor import Predictor


class Results:
    """The results of a study. Scores are shares in [0, 1]; frames are read once, when first asked for."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    @property
    def study(self) -> Study:
        """Return the question with everything it has gained."""
        return self.frames.study

    @property
    def folder(self) -> str:
        """Return the study's own folder, a path or a URL."""
        return self.frames.ledger.folder.location

    @property
    def in_progress(self) -> bool:
        """Return True where trials are left to run, so that the results may change."""
        return self.frames.in_progress

    @property
    def unfinished(self) -> str:
        """Return in words that the study is in progress, with the command that finishes it; an empty text where it is done."""
        return (
            f"{self.folder} is in progress: what it finds may still change. Finish it: python -m study.sweep {self.folder}"
            * self.in_progress
        )

    @functools.cached_property
    def findings(self) -> Findings:
        """Return everything that the report says, as tables and sentences."""
        return findings(self.frames)

    @property
    def answers(self) -> list[Answer]:
        """Return the answer at a glance for each data set: what to do, how sure it is, its score, its evidence, and the next step."""
        return self.findings.answers

    @property
    def answer(self) -> Answer:
        """Return the answer for the study's only data set. Raises ConfigError where there are several: `answers` has them."""
        if len(self.answers) > 1:
            names = ", ".join(a.dataset for a in self.answers)
            raise ConfigError(f"{self.study.name} asks on {len(self.answers)} data sets ({names}). Use results.answers.")
        return self.answers[0]

    @property
    def next_step(self) -> NextStep:
        """Return what to do next about the study's only data set, with its command and price. Raises ConfigError where there are
        several."""
        return self.answer.next_step

    @property
    def verdicts(self) -> pd.DataFrame:
        """Return one row for each question: the sentence, its answer first."""
        return pd.DataFrame({"sentence": [s.text for s in self.findings.sentences]})

    @property
    def labelled(self) -> list[str]:
        """The verdict again, with pictures that `python -m study.label` drew and somebody labelled: a line a question."""
        return self.findings.labelled

    @property
    def strategies(self) -> pd.DataFrame:
        """Return one row for each strategy and metric, on test: mean, low, high (95 %), seeds."""
        return self.findings.strategies

    @property
    def pairs(self) -> pd.DataFrame:
        """One row a pair of strategies: difference in test score with its interval, p values, verdict."""
        return self.findings.pairs

    @property
    def why(self) -> pd.DataFrame:
        """Return one row for each explanation and measure: both strategies' means, difference with its interval, p values, verdict."""
        return why_rows(self.findings.why)

    @property
    def tuned(self) -> list[str]:
        """Return the gain of tuning over each strategy's published default, one line each; empty unless the study asked
        (`explain=("default",)`)."""
        return [g.text for g in self.findings.tuned]

    @property
    def seeds(self) -> pd.DataFrame:
        """Return one row for each confirm run and metric, on test."""
        return self.findings.seeds

    @property
    def advice(self) -> list[str]:
        """Return the strategy to use by number of images, steps or pixels, one line for each data set and backbone.

        The list is empty where the study varies none of them.
        """
        return [a.text for a in self.findings.advice]

    @property
    def sizes(self) -> pd.DataFrame:
        """Return one row for each strategy and `place` on an `axis` ("images", "steps", "pixels"): mean, low, high (95 %), seconds of a
        run.

        The table is empty where the study varies none of them.
        """
        return self.findings.when.sizes

    @property
    def crossings(self) -> pd.DataFrame:
        """Return one row for each pair of strategies and `axis`: the place where their curves cross, with its interval; empty as `sizes`
        is."""
        return self.findings.when.crossings

    @property
    def trials(self) -> pd.DataFrame:
        """Return one row for each trial, in the order of asking; searched values as hp/<name>."""
        return self.frames.trials

    @property
    def epochs(self) -> pd.DataFrame:
        """Return one row for each epoch: losses, metrics, distances from the start."""
        return self.frames.epochs

    @property
    def warnings(self) -> list[str]:
        """Return the caveats of the report, one line each."""
        return self.findings.warnings

    def figure(self, name: str) -> "go.Figure":
        """Return a figure of the report by name. Raises ConfigError, which lists the names, for another one."""
        spec = {f.name: f for f in FIGURES}
        if name not in spec:
            raise ConfigError(f"No figure {name!r}. Choose from {nearest(name, list(spec))}.")
        return spec[name].draw(spec[name].compute(self.frames, self.findings))

    @property
    def picks(self) -> pd.DataFrame:
        """One row a cell that has a network to use, `leads` for the one of each data set, then one for each that was `delivered`: trial,
        folder, settings, validation and test score, temperature."""
        place = self.frames.ledger.folder
        return pd.DataFrame([{**pick_row(p), "folder": place.shown(f"trials/{p.trial}")} for p in self.findings.picks])

    def pick(self, cell: Cell | str = "", *, compared: bool = False) -> Pick:
        """Return the network to use and what is known of it: the one that was delivered for the data set, where there is one.

        `cell` is a Cell, its id, or some of its parts ("partial", "mini_weeds/partial"). With a strategy in it, or with `compared`
        (also as a part: "compared"), it is a network of the comparison: of the cells that fit, the one the verdict speaks for, and of
        its confirm runs the one with the best validation score. No test score chooses.

        Raises ConfigError where none fits, or several data sets do.
        """
        wanted = cell.id if isinstance(cell, Cell) else cell
        if not isinstance(wanted, str):
            raise ConfigError(f"A cell is named by a Cell, its id or some of its parts, not by {shown(repr(cell))[:60]}.")
        if lost_choice(self.frames) and not any(p.delivered for p in self.findings.picks):  # else the line to beat would stand in
            raise ConfigError(why_nothing(self.frames))
        return find_pick(self.findings.picks, wanted, compared=compared, none=why_nothing(self.frames))

    def predictor(self, cell: Cell | str = "", *, ensemble: bool = False, calibrated: bool = True, compared: bool = False) -> "Predictor":
        """Return the pick's network as a function of images; `cell` and `compared` as in `pick`.

        `ensemble`: use all confirm runs of a compared cell together, at as many times the cost (`pick(cell, compared=True).together` says
        what this gains). `calibrated`: apply the temperature fitted on validation, and the rule of the
        study's metric; without it the likeliest class is named. Raises ConfigError.
        """
        from study.use.predictor import Ensemble, Predictor

        pick, ledger = self.pick(cell, compared=compared or ensemble), self.frames.ledger
        if not ensemble:
            rule = pick.deciding if calibrated else Deciding()
            return Predictor.from_folder(ledger.trial_folder(pick.trial), pick.temperature if calibrated else 1.0, rule, pick.thresholds)
        if pick.folds > 1:
            raise ConfigError(
                f"{self.study.name} has outer folds: its {pick.folds} networks were tested on other images each, so no score of an "
                "ensemble is known. Leave ensemble out."
            )
        if pick.together is None:
            raise ConfigError(
                f"{pick.cell.id} has {len(pick.trials)} confirm run(s) with predictions. An ensemble needs two: leave it out."
            )
        members = [Predictor.from_folder(ledger.trial_folder(trial)) for trial in pick.trials]
        own = pick.together.calibrated
        temperature = own.temperature if calibrated and own else 1.0
        return Ensemble(members, temperature, pick.deciding if calibrated else Deciding(), pick.together.thresholds)

    def prediction_sets(
        self, cell: Cell | str = "", level: float = 0.95, *, ensemble: bool = False, calibrated: bool = True, compared: bool = False
    ) -> Sets:
        """Return how the pick's prediction sets at `level` are made and how often they held the true class.

        `sets.of(probabilities)` are those of pictures. The other arguments are as in `predictor`. Raises ConfigError where too few
        images are known for the level.
        """
        check("sets", level, "level")
        pick = self.pick(cell, compared=compared or ensemble)
        together = pick.together.calibrated if ensemble and pick.together else None
        t = together.temperature if together else pick.temperature
        return prediction_sets(self.frames, pick, level, temperature=t if calibrated else 1.0, ensemble=ensemble)

    def known_sets(self, cell: Cell | str = "", *, compared: bool = False) -> list[Sets]:
        """Return the pick's prediction sets at the levels that travel with a network, those for which enough images are known."""
        return known_sets(self.frames, self.pick(cell, compared=compared))

    def sets_facts(self, cell: Cell | str = "", *, compared: bool = False) -> dict[str, Any]:
        """Return what files that travel with the pick hold of them; empty where there are none."""
        return sets_facts(self.known_sets(cell, compared=compared))

    def model_card(self, cell: Cell | str = "", *, compared: bool = False) -> str:
        """Return the pick's model card in Markdown; `cell` and `compared` as in `pick`.

        It holds data, training, scores with intervals, calibration, classes from the worst on, limits, and the licence of the pretrained
        weights, all from the ledger.
        """
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
        """Return the answer of each data set as an HTML card for a notebook."""
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
    """Run a study (a value, or the name of one) to its end and return its results.

    The same call resumes, and grows a study that gained seeds, trials or cells. An interrupt stops it after the current epoch; its
    results are then in progress.

    `local`: in this process, without Ray; `ray`: on Ray; with neither, on the one that is expected to end first. `mlflow`: a server's
    URI, None for SQLite under `results`, "off" for none; `track`: a tracker beside it, tensorboard:FOLDER. `images`: small copies of
    images in the results and on the report; False for private ones.

    Raises ConfigError, DataError or EnvironmentProblem, each one line with the way out.
    """
    options = Options(
        results=as_text(results),
        data=as_text("" if data is None else data) or os.environ.get("STUDY_DATA"),
        weights=as_text("" if weights is None else weights) or os.environ.get("STUDY_WEIGHTS"),
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
    """Return a study and the text behind the colon of RESULTS/STUDY[:CELL]. Raises ConfigError where there is no study."""
    folder, cell = placed(place)
    return Results(load(folder)), cell


def load_study(source: str | os.PathLike[str] | Ledger, study: str | None = None) -> Results:
    """Open a study's folder, a results folder that holds one, or an MLflow URI (URI#STUDY). Raises ConfigError where there is none."""
    return Results(load(source, study))
