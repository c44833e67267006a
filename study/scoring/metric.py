"""The metric that a study asks for, as one value: search, choice of epoch and winner, verdict, forecasts, figures and words read it here.

Internally a **score** is always higher where it is better: for a loss or a cost it is the negative (scikit-learn's `neg_log_loss`), and
records use that name. People read the natural value, `shown`: a hundred times it, in the metric's `unit`.

| metric | is | a score needs | its interval |
| --- | --- | --- | --- |
| macro_f1, balanced_accuracy, accuracy, f1:CLASS | functions of counts by class | the predicted class | resampled images |
| quadratic_kappa | 1 minus the mean squared step over the one of chance (Cohen 1968) | the predicted class, an order | resampled images |
| auroc, average_precision | each class against the rest, the mean over classes that occur | probabilities | resampled images; see below |
| log_loss, brier, cost | means over images | probabilities after the temperature | resampled images |

With folds, the interval of AUROC comes from DeLong's placements, and that of average precision from placements made the same way. Log
loss has no bound, so a single score's interval is made on the scale of its logarithm, for all others on the logit scale between their
bounds.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import ConfigError, nearest
from study.inference.softmax import softmax
from study.metrics import Counts, accuracy, counts, f1, fit_temperature, macro_f1, macro_recall
from study.scoring import influence, scores
from study.scoring.costs import EXAMPLE, Costs, parse_costs, read_costs


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """The predictions of a network on N images. `probabilities` [N, C] may be missing where no metric needs them."""

    named: np.ndarray  # [N] places of classes
    probabilities: np.ndarray | None = None

    def at(self, images: np.ndarray) -> "Said":
        """The same of some images, by place or mask."""
        return Said(named=self.named[images], probabilities=None if self.probabilities is None else self.probabilities[images])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Direction, unit, margin and bounds of a metric, its words, and how a score comes from labels and what was said."""

    text: str  # as it is asked for and kept: "macro_f1", "f1:pneumonia", "cost:[[...]]"
    words: str  # "macro-F1"
    higher: bool = True  # whether more of it is better
    unit: str = "points"
    margin: float = 1.0  # in its unit: a difference that is worth having, where nobody says otherwise
    low: float = 0.0  # between these lies every score
    high: float = 1.0
    span: float = 1.0  # how far one image of one can move a score
    calibrated: bool = False  # of probabilities after the temperature that validation gave
    probable: bool = False  # of probabilities: the class named is not enough
    by_class: bool = False  # weighs all classes alike, however few images one has
    needs_all: bool = False  # undefined where a class has no image
    costs: Costs | None = None
    of_class: str = ""  # the class that it is about
    order: tuple[str, ...] = ()  # of its classes
    classes: tuple[str, ...] = field(default=(), compare=False)  # the data's, once bound

    # ---- names -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The member, without what it is about."""
        return self.text.partition(":")[0]

    @property
    def key(self) -> str:
        """Return the name of its score in records: the metric's name, with "neg_" before that of a loss."""
        return self.name if self.higher else f"neg_{self.name}"

    @property
    def width(self) -> float:
        """Return the largest possible difference of two scores."""
        return self.high - self.low

    @property
    def recorded(self) -> str:
        """Its score on validation, as records and trackers hold it."""
        return f"val/{self.key}"

    @property
    def title(self) -> str:
        """Its words as they begin a line."""
        return self.words[0].upper() + self.words[1:]

    @property
    def measured(self) -> str:
        """Return the words for a difference: "points of macro-F1", "cost per 100 images"."""
        return "cost per 100 images" if self.name == "cost" else f"{self.unit} of {self.words}"

    @property
    def short(self) -> str:
        """Return the unit of a difference where its metric was named before: "points"."""
        return self.unit if self.unit == "points" else self.measured

    @property
    def gained(self) -> str:
        """Return the unit of a gain, more being better: "points of macro-F1", "less cost per 100 images"."""
        return self.measured if self.higher else f"less {self.measured}" if self.costs is not None else f"{self.unit} less of {self.words}"

    def count(self, value: float) -> str:
        """So many of its unit: "1 point", "2.5 points", "3 per 100 images"."""
        one = self.unit.removesuffix("s") if value == 1 and self.unit != "per 100 images" else self.unit
        return f"{value:g} {one}"

    def at_most(self, loss: float) -> str:
        """Return a bound on a loss in its unit, never less than it is: "0.1 points", "1 point", "8.3 points"."""
        return self.count(self.rounded_up(loss))

    @staticmethod
    def rounded_up(loss: float) -> float:
        """Return a bound on a loss to one place, never less than it is, and at least 0.1."""
        return max(math.ceil(10 * loss - 1e-9) / 10, 0.1)

    def shown(self, score: Any) -> Any:
        """A score, or many, as people read it: a hundred times the natural value."""
        return (100 if self.higher else -100) * score + 0.0

    def difference(self, first: str, other: str) -> str:
        """Return the words before a difference of two scores, the better side first.

        They are "partial minus full: ", or for a loss "partial instead of full saves ".
        """
        return f"{first} minus {other}: " if self.higher else f"{first} instead of {other} saves "

    def ahead(self, by: float) -> str:
        """Return the lead in its own unit, for "It ... than": "scores 4.2 points higher", "costs 3.1 less per 100 images"."""
        if self.costs is not None:
            return f"costs {by:.1f} less per 100 images"
        return f"scores {by:.1f} {self.unit} {'higher' if self.higher else f'lower in {self.words}, which is better,'}"

    def worth(self, score: float) -> str:
        """Return the score as a sentence begins: "It scores 83 points of 100", "It costs 12.0 per 100 images"."""
        if self.costs is not None:
            return f"It costs {self.shown(score):.1f} per 100 images"
        nearly = 99.5 <= self.shown(score) < 100  # "100 of 100" is said of all alone
        digits = 1 if self.margin < 1 or not self.higher or nearly else 0
        return f"It scores {self.shown(score):.{digits}f} {self.unit}{' of 100' if self.higher else ''}"

    def natural(self, score: float) -> float:
        """A score as the metric's own number: a loss is positive again."""
        return (score if self.higher else -score) + 0.0

    def phrase(self, score: float) -> str:
        """A score in a sentence: "83.1 points of macro-F1", "cost 12.0 per 100 images"."""
        value = f"{self.shown(score):.1f}"
        return f"{self.words} {value} {self.unit}" if self.name == "cost" else f"{value} {self.measured}"

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """The ends of a score's interval as people read them, the lower first."""
        ends = (self.shown(low), self.shown(high))
        return ends if self.higher else ends[::-1]

    @property
    def explained(self) -> str:
        """Return an explanation of the metric for people."""
        return EXPLAINED[self.name]

    # ---- scores ----------------------------------------------------------------------------------------

    def bind(self, classes: Sequence[str], order: Sequence[str] = ()) -> "Metric":
        """The metric for data with these classes, in their order of places. `order`: the classes from least to most, where they have one.
        Raises ConfigError for a class that is not there, costs of other classes, or no order where one is needed."""
        own = replace(self, classes=tuple(classes), order=(self.order or tuple(order)) if self.name == "quadratic_kappa" else ())
        if self.of_class and self.of_class not in classes:
            raise ConfigError(
                f"metric {self.text}: no class is called {self.of_class!r}. Choose from {nearest(self.of_class, list(classes))}."
            )
        if self.costs is not None:
            self.costs.matrix(classes)
        if self.name == "quadratic_kappa":
            if not own.order:
                raise ConfigError(
                    f"metric quadratic_kappa needs an order of the classes: quadratic_kappa:{','.join(classes)} (least first)."
                )
            if sorted(own.order) != sorted(classes):
                raise ConfigError(
                    f"metric quadratic_kappa orders {', '.join(own.order)}, and the classes are {', '.join(classes)}. Name "
                    "each of them once."
                )
        return own

    def check(self, labels: np.ndarray, what: str = "test images") -> None:
        """Raises ConfigError where these images [N] cannot bear the metric: a class that none of them shows."""
        absent = [c for k, c in enumerate(self.classes) if not (labels == k).any()]
        if self.needs_all and absent:
            raise ConfigError(
                f"{self.words} needs every class among the {what}, and {', '.join(absent[:5])} "
                f"{'has' if len(absent) == 1 else 'have'} none; "
                "add some, leave the class out, or choose another --metric (macro_f1, log_loss)."
            )

    def check_margin(self, margin: float) -> None:
        """Raises ConfigError where no two scores can be so far apart."""
        if margin >= 100 * self.width:
            raise ConfigError(f"margin must be below {100 * self.width:g}, the most that {self.words} can differ by, not {margin:g}.")

    def said(self, logits: np.ndarray, temperature: float = 1.0) -> Said:
        """Return the predictions of logits [N, C]: probabilities, and the class that the metric decides for."""
        own = softmax(np.asarray(logits, np.float64) / temperature)
        named = self.decide(own) if self.costs else logits.argmax(axis=1)
        return Said(named=named, probabilities=own)

    def temperature(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the temperature fitted on validation images, where the metric uses probabilities after it; 1 for others."""
        return fit_temperature(np.asarray(logits, np.float64), labels) if self.calibrated and len(labels) else 1.0

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """[N]: the likeliest class; of costs the one whose expected cost is least."""
        if self.costs is None:
            return np.asarray(probabilities.argmax(axis=1))
        return np.asarray((probabilities @ self.costs.matrix(self.classes)).argmin(axis=1))

    def score(self, labels: np.ndarray, said: Said, weights: np.ndarray | None = None, classes: int = 0) -> np.ndarray:
        """Return the score of labels [N], higher where better: [], or [B] with weights [B, N] of images.

        `classes`: their number, where none are bound. NaN where it is undefined. Raises ValueError where probabilities are needed and
        missing.
        """
        if self.probable and said.probabilities is None:
            raise ValueError(f"{self.words} needs probabilities")
        natural = SCORES[self.name](self, labels, said, weights, classes or self._width(labels, said))
        return np.asarray(natural if self.higher else -natural, dtype=float)

    def figure(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """{key: score} of logits [N, C] on images that calibrate themselves, as those of validation do; empty where it is undefined."""
        value = float(self.score(labels, self.said(logits, self.temperature(logits, labels))))
        return {self.key: value} if np.isfinite(value) else {}

    def influences(self, labels: np.ndarray, said: Said, classes: int = 0) -> np.ndarray:
        """[N]: what each image contributes to the score, its derivative by the image's weight; they sum to 0."""
        natural = INFLUENCES[self.name](self, labels, said, classes or self._width(labels, said))
        return np.asarray(natural if self.higher else -natural)

    def losses(self, labels: np.ndarray, said: Said) -> np.ndarray:
        """[N], of metrics that are means over images."""
        if self.costs is not None:
            return np.asarray(self.costs.matrix(self.classes)[labels, said.named])
        assert said.probabilities is not None
        return (scores.log_losses if self.name == "log_loss" else scores.brier_losses)(labels, said.probabilities)

    @property
    def place(self) -> int:
        """Return the place of its class among the data's."""
        return self.classes.index(self.of_class)

    @property
    def ranks(self) -> np.ndarray:
        """[C]: the place of each of the data's classes in their order."""
        return np.array([self.order.index(c) for c in self.classes])

    def _width(self, labels: np.ndarray, said: Said) -> int:
        return len(self.classes) or int(max(labels.max(), said.named.max())) + 1


def without_score(scores: np.ndarray, metric: Metric) -> np.ndarray:
    """Scores [N] in which a trial that has none, as it diverged, found nothing: 0, and of a loss the worst there is."""
    known = scores[~np.isnan(scores)]
    nothing = 0.0 if metric.higher or not len(known) else max(metric.low, float(known.min())) if np.isinf(metric.low) else metric.low
    return np.where(np.isnan(scores), nothing, scores)


Scored = Callable[[Metric, np.ndarray, Said, np.ndarray | None, int], np.ndarray]
Moved = Callable[[Metric, np.ndarray, Said, int], np.ndarray]


def _counted(of: Callable[[Metric, Counts], np.ndarray]) -> Scored:
    return lambda m, labels, said, weights, classes: of(m, counts(said.named, labels, classes, weights))


def _by_gradient(name: str) -> Moved:
    return lambda m, labels, said, classes: influence.influences(name, said.named, labels, counts(said.named, labels, classes))


def _mean_loss(m: Metric, labels: np.ndarray, said: Said, weights: np.ndarray | None, classes: int) -> np.ndarray:
    return scores.mean(m.losses(labels, said), weights)


SCORES: dict[str, Scored] = {
    "macro_f1": _counted(lambda m, c: macro_f1(c)),
    "accuracy": _counted(lambda m, c: accuracy(c)),
    "balanced_accuracy": _counted(lambda m, c: macro_recall(c)),
    "f1": _counted(lambda m, c: f1(c)[..., m.place]),
    "quadratic_kappa": lambda m, labels, said, weights, classes: scores.quadratic_kappa(labels, said.named, m.ranks, weights),
    "auroc": lambda m, labels, said, weights, classes: scores.auroc(labels, said.probabilities, weights),  # type: ignore[arg-type]
    "average_precision": lambda m, labels, said, weights, classes: scores.average_precision(
        labels,
        said.probabilities,  # type: ignore[arg-type]
        weights,
    ),
    "log_loss": _mean_loss,
    "brier": _mean_loss,
    "cost": _mean_loss,
}
INFLUENCES: dict[str, Moved] = {
    "macro_f1": _by_gradient("macro_f1"),
    "accuracy": _by_gradient("accuracy"),
    "balanced_accuracy": _by_gradient("macro_recall"),
    "f1": lambda m, labels, said, classes: influence.of_f1(said.named, labels, m.place),
    "quadratic_kappa": lambda m, labels, said, classes: influence.of_kappa(said.named, labels, m.ranks),
    "auroc": lambda m, labels, said, classes: influence.of_auroc(labels, said.probabilities),  # type: ignore[arg-type]
    "average_precision": lambda m, labels, said, classes: influence.of_average_precision(
        labels,
        said.probabilities,  # type: ignore[arg-type]
    ),
    "log_loss": lambda m, labels, said, classes: influence.of_mean(m.losses(labels, said)),
    "brier": lambda m, labels, said, classes: influence.of_mean(m.losses(labels, said)),
    "cost": lambda m, labels, said, classes: influence.of_mean(m.losses(labels, said)),
}

DEFAULT = Metric(text="macro_f1", words="macro-F1", by_class=True)
MEMBERS = {
    m.name: m
    for m in (
        DEFAULT,
        Metric(text="accuracy", words="accuracy"),
        Metric(text="balanced_accuracy", words="balanced accuracy", by_class=True),
        Metric(text="f1", words="F1"),
        Metric(text="auroc", words="AUROC", probable=True, by_class=True, needs_all=True),
        Metric(text="average_precision", words="average precision", probable=True, by_class=True, needs_all=True),
        Metric(text="log_loss", words="log loss", higher=False, unit="hundredths", low=-np.inf, high=0.0, calibrated=True, probable=True),
        Metric(text="brier", words="Brier score", higher=False, low=-1.0, high=0.0, calibrated=True, probable=True),
        Metric(text="quadratic_kappa", words="quadratic kappa", low=-1.0),
        Metric(text="cost", words="cost", higher=False, unit="per 100 images", calibrated=True),
    )
}
EXPLAINED = {
    "macro_f1": "F1 is the harmonic mean of precision and recall of a class. Macro-F1 is its mean over classes, so a rare class counts as "
    "much as a common one.",
    "accuracy": "The share of images that are named rightly. A common class counts more than a rare one.",
    "balanced_accuracy": (
        "The share of a class's images that are named rightly, as a mean over classes: a rare one counts as much as a common one."
    ),
    "f1": "F1 is the harmonic mean of precision and recall of this one class.",
    "auroc": "The chance that an image of a class is given a higher probability of it than one of another class. 50 is guessing. It is "
    "the mean over classes.",
    "average_precision": "The mean precision over all thresholds, weighed by the recall that each gains. It is the mean over classes.",
    "log_loss": (
        "The mean of minus the logarithm of the true class's probability, after the temperature that validation gave. Lower is better."
    ),
    "brier": "The mean squared distance between probabilities and truth, after the temperature that validation gave. Lower is better.",
    "quadratic_kappa": (
        "Agreement beyond chance of ordered classes: a step of two counts four times as much as a step of one. 100 is perfect."
    ),
    "cost": "The mean cost of an answer, by the costs that you gave. Each answer is the one whose expected cost is lowest, by "
    "probabilities that validation calibrated. Lower is better.",
}
FORMS = {"f1": "f1:CLASS", "cost": "cost:FILE.csv", "quadratic_kappa": "quadratic_kappa:LEAST,...,MOST"}
"""The forms of metrics that take more than a name."""


def metric_of(config: Mapping[str, Any]) -> Metric:
    """Return the metric by which a trial is scored, from its configuration in JSON (`Ask.config`)."""
    return _known(config["protocol"].get("metric", DEFAULT.text))


@functools.lru_cache(maxsize=16)
def _known(text: str) -> Metric:
    return find_metric(text)


def find_metric(text: str) -> Metric:
    """The metric called so. Of costs, `text` names a CSV or holds what `Costs.text` says. Raises ConfigError."""
    name, _, rest = text.strip().partition(":")
    if name not in MEMBERS:
        raise ConfigError(f"Unknown metric {name!r}. Choose from {nearest(name, list(MEMBERS))}.")
    own = MEMBERS[name]
    if name == "f1":
        if not rest:
            raise ConfigError("metric f1 is about one class: name it, f1:CLASS (of all classes, macro_f1).")
        return replace(own, text=f"f1:{rest}", words=f"F1 of {rest}", of_class=rest)
    if name == "cost":
        if not rest:
            raise ConfigError(f"metric cost needs its matrix, a CSV with the truth in rows: cost:costs.csv ({EXAMPLE}).")
        costs = parse_costs(rest) if rest.startswith("[") else read_costs(str(Path(rest).expanduser()))
        low, high = (pick(v for row in costs.rows for v in row) for pick in (min, max))
        return replace(own, text=f"cost:{costs.text}", costs=costs, margin=costs.least, low=-high, high=-low, span=high - low)
    if name == "quadratic_kappa" and rest:
        order = tuple(c.strip() for c in rest.split(","))
        return replace(own, text=f"{name}:{','.join(order)}", order=order)
    if rest:
        raise ConfigError(f"metric {name} takes nothing after it, not {rest[:40]!r}. Say --metric {name}.")
    return own
