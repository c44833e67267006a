"""The network to use of a cell, as a value, and the name by which a person asks for one."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.question import Question
from analysis.findings.delivered import Delivered
from analysis.findings.network_scores import Calibrated, Score, Together, gained, points
from study.errors import ConfigError, nearest
from study.question.cell import Cell
from study.scoring.decide import Deciding
from study.scoring.metric import DEFAULT, Metric
from study.strategies import EVERY


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The network to use of one cell."""

    cell: Cell
    question: Question
    trials: tuple[
        str, ...
    ]  # its confirm runs on one split, best validation first: the first is the pick; the search's winner where none was confirmed
    confirmed: bool
    settings: Mapping[str, Any]  # what was searched
    seed: int
    epoch: int  # of the kept checkpoint
    validation: float  # its score there, optimistic
    test: Score | None = None  # None where nothing was confirmed
    calibrated: Calibrated | None = None
    together: Together | None = None
    reason: str = ""  # why this strategy, of the one that speaks for its question; else empty
    leads: bool = False  # the one for its data set
    average: float | None = None  # mean test score of its runs
    folds: int = 1  # outer folds, of which its network saw all but one; `test` and `calibrated` are of the networks of all of them
    metric: Metric = DEFAULT
    deciding: Deciding = Deciding()  # how its probabilities after the temperature become an answer
    decided: Score | None = None  # on test by that rule, where it is another than the comparison's
    delivered: Delivered | None = None  # how it came about, where it is no compared network but the one that is handed over

    @property
    def trial(self) -> str:
        return self.trials[0]

    @property
    def temperature(self) -> float:
        if self.calibrated:
            return self.calibrated.temperature
        return self.delivered.temperature if self.delivered else 1.0

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Return the thresholds of labels' logits of a network that is handed over: it had no validation images to keep them by."""
        return self.delivered.thresholds if self.delivered else ()

    @property
    def probabilities(self) -> str:
        """Return in words how its probabilities were calibrated, and how far off they are where that was measured."""
        if self.calibrated:
            return self.calibrated.text
        if self.temperature != 1.0:
            return f"temperature {self.temperature:.2f}, whose error was not measured"
        return "probabilities as trained"

    @property
    def rule(self) -> str:
        """Return how it decides where it does not give the likeliest class, with its score then, else ""."""
        text = self.deciding.text(self.metric.classes)
        return f"{text}: test {self.metric.words} {points(self.decided, self.metric)}" if text and self.decided else text

    @property
    def named(self) -> str:
        """Return its strategy, for a delivered network followed by its training."""
        return self.cell.strategy if self.delivered is None else f"{self.cell.strategy}, delivered: {self.delivered.text}"

    @property
    def outdated(self) -> str:
        """Return a sentence where a delivered network is older than the study's last growth, else ""."""
        return self.delivered.outdated if self.delivered else ""

    @property
    def among(self) -> str:
        """Return in words its place among the study's numbers of images, budgets and image sizes, or "" where there is one of each."""
        own = self.question
        if EVERY[self.cell.strategy].exact:  # it stands beside all of them
            own = dataclasses.replace(own, max_epochs=0, image_size=0)
        asked = ", ".join(own.lines[2:])
        return f" ({asked})" if asked and self.delivered is None else ""

    @property
    def dataset(self) -> str:
        """Return its data set as people say it, and as a command takes it behind the study."""
        return self.cell.data.short

    @property
    def of(self) -> str:
        """Return its data set, with its splits where they are not the official ones."""
        return self.cell.data.called

    @property
    def shown_settings(self) -> str:
        return in_words(self.settings)

    @property
    def scores(self) -> str:
        """Return its test score in words."""
        if self.delivered is not None and self.folds > 1 and self.test is not None:
            return (
                f"its strategy's {self.folds} networks, each on the images that it never saw: test {self.metric.words} "
                f"{points(self.test, self.metric)}"
            )
        if self.delivered is not None:
            own = "no test predictions are kept" if self.test is None else f"test {self.metric.words} {points(self.test, self.metric)}"
            return f"{own}; {self.delivered.beside}" if self.delivered.beside else own
        if self.test is None:
            return (
                f"validation {self.metric.words} {self.metric.shown(self.validation):.1f} (of the search, optimistic; not "
                "confirmed, no test score)"
            )
        return f"test {self.metric.words} {points(self.test, self.metric)}"

    @property
    def gain(self) -> str:
        """Return in words the gain of averaging all its runs, or "" where there is only one."""
        t = self.together
        if t is None:
            return ""
        return (
            f"all {t.networks} confirm runs together: test {self.metric.words} {points(t.test, self.metric)}, {gained(t.gain)} "
            f"{self.metric.short} over one of them on average, at {t.networks} times the cost"
        )


def in_words(settings: Mapping[str, Any]) -> str:
    """Return the settings in words, as in "lr 0.0003, unfreeze_depth 2"."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings.items())


def pick_row(pick: Pick) -> dict[str, Any]:
    """Return its row of a table. Scores are shares, not points."""
    test = pick.test or Score(mean=np.nan, low=np.nan, high=np.nan)
    return {
        **pick.question.columns,
        "strategy": pick.cell.strategy,
        "leads": pick.leads,
        "delivered": pick.delivered is not None,
        "reason": pick.reason,
        "trial_id": pick.trial,
        "seed": pick.seed,
        "validation": pick.validation,
        "test": test.mean,
        "low": test.low,
        "high": test.high,
        "temperature": pick.temperature,
        "settings": pick.shown_settings,
    }


NOTHING = "no trial of the study has finished yet. Run it to its end."
COMPARED = "compared"
"""The word behind a colon for the network that the report compares, where another one was delivered."""


def find_pick(picks: Sequence[Pick], wanted: str = "", *, compared: bool = False, none: str = NOTHING) -> Pick:
    """Find the network that `wanted` names: a cell's id, or any of its parts joined by "/".

    The parts are data set, NAME@SPLITS, backbone, strategy, share of the images, budget ("3x", "30 epochs") and image size ("128px").
    Of several that fit, the delivered network comes first, else the one that leads. A strategy, a backbone, a share or `COMPARED` in
    the name means a compared network, and so does `compared=True`.

    Raises ConfigError where none fits or several data sets do. `none` is its text where there is no pick at all.
    """
    among = [p for p in picks if p.delivered is None] if compared else picks
    fit = [p for p in among if p.delivered is None and p.cell.id == wanted] or [p for p in among if _fits(p, wanted)]
    if len({(p.cell.dataset, p.cell.split_protocol) for p in fit}) == 1:
        return max(fit, key=lambda p: (p.delivered is not None, p.leads, bool(p.reason), p.validation))
    known = list(dict.fromkeys([*(p.of for p in picks), *(f"{p.of}/{p.cell.strategy}" for p in picks)]))
    if not known:
        raise ConfigError(none)
    what = f"{wanted!r} names {len(fit)} cells" if wanted else "the study asks on several data sets"
    raise ConfigError(f"{what}. Name one behind a colon, as RESULTS/STUDY:{known[0]}: {nearest(wanted, known)}.")


def _fits(pick: Pick, wanted: str) -> bool:
    c = pick.cell
    own = {c.dataset, pick.dataset, c.splits, pick.of, c.data.short_full}
    if pick.delivered is None:
        own |= {c.backbone, c.strategy, f"{c.train_fraction:g}", f"{c.budget}x", f"{c.image_size}px", COMPARED, *pick.question.lines[2:]}
        own.add(c.id.rpartition("/")[2])
    return wanted in own or all(part in own for part in wanted.split("/") if wanted)
