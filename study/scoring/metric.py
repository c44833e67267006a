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
loss has no bound, so a single score's interval is made on the scale of its logarithm; for all others on the logit scale between their
bounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
        """Return the predictions on some images, by place or mask."""
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
        """Return the metric's name, without class, costs or order."""
        return self.text.partition(":")[0]

    @property
    def key(self) -> str:
        """Return the name of its score in records: the metric's name, with "neg_" before that of a loss."""
        return self.name if self.higher else f"neg_{self.name}"

    @property
    def objective(self) -> str:
        """Return the name of its score on validation, as records and trackers hold it."""
        return f"val/{self.key}"

    @property
    def title(self) -> str:
        """Return its words as they begin a line."""
        return self.words[0].upper() + self.words[1:]

    @property
    def measured(self) -> str:
        """Return the words for a difference: "points of macro-F1", "cost per 100 images"."""
        return "cost per 100 images" if self.name == "cost" else f"{self.unit} of {self.words}"

    def count(self, value: float) -> str:
        """Return a number of its unit: "1 point", "2.5 points", "3 per 100 images"."""
        one = self.unit.removesuffix("s") if value == 1 and self.unit != "per 100 images" else self.unit
        return f"{value:g} {one}"

    def shown(self, score: float) -> float:
        """Return a score as people read it: a hundred times the natural value."""
        return (100 if self.higher else -100) * score + 0.0

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a score's interval as people read them, the lower first."""
        ends = (self.shown(low), self.shown(high))
        return ends if self.higher else ends[::-1]

    # ---- scores ----------------------------------------------------------------------------------------

    def bind(self, classes: Sequence[str], order: Sequence[str] = ()) -> "Metric":
        """Return the metric for data with these classes, in their order of places. `order`: the classes from least to most, where they
        have one.

        Raises ConfigError for a missing class, costs of other classes, or a missing order where one is needed.
        """
        own = replace(self, classes=tuple(classes), order=self.order or tuple(order))
        if self.of_class and self.of_class not in classes:
            raise ConfigError(
                f"metric {self.text}: no class is called {self.of_class!r}; choose from {nearest(self.of_class, list(classes))}."
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
                    f"metric quadratic_kappa orders {', '.join(own.order)}, and the classes are {', '.join(classes)}; name each of "
                    "them once."
                )
        return own

    def check(self, labels: np.ndarray, what: str = "test images") -> None:
        """Raise ConfigError where these images [N] do not fit the metric, because none of them shows a class."""
        absent = [c for k, c in enumerate(self.classes) if not (labels == k).any()]
        if self.needs_all and absent:
            raise ConfigError(
                f"{self.words} needs every class among the {what}, and {', '.join(absent[:5])} "
                f"{'has' if len(absent) == 1 else 'have'} none; "
                "add some, leave the class out, or choose another --metric (macro_f1, log_loss)."
            )

    def said(self, logits: np.ndarray, temperature: float = 1.0) -> Said:
        """Return the predictions of logits [N, C]: probabilities, and the class that the metric decides for."""
        own = softmax(np.asarray(logits, np.float64) / temperature)
        named = self.decide(own) if self.costs else logits.argmax(axis=1)
        return Said(named=named, probabilities=own)

    def temperature(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the temperature fitted on validation images, where the metric uses probabilities after a temperature; 1 for others."""
        return fit_temperature(np.asarray(logits, np.float64), labels) if self.calibrated and len(labels) else 1.0

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return [N]: the likeliest class; for costs the one with the least expected cost."""
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
        """Return {key: score} of logits [N, C] on images that calibrate themselves, as those of validation do; empty where it is
        undefined."""
        value = float(self.score(labels, self.said(logits, self.temperature(logits, labels))))
        return {self.key: value} if np.isfinite(value) else {}

    def influences(self, labels: np.ndarray, said: Said, classes: int = 0) -> np.ndarray:
        """Return [N]: the contribution of each image to the score, its derivative by the image's weight; they sum to 0."""
        natural = INFLUENCES[self.name](self, labels, said, classes or self._width(labels, said))
        return np.asarray(natural if self.higher else -natural)

    def losses(self, labels: np.ndarray, said: Said) -> np.ndarray:
        """Return the losses [N] for a metric that is a mean over images."""
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
        """Return [C]: the place of each of the data's classes in their order."""
        return np.array([self.order.index(c) for c in self.classes])

    def _width(self, labels: np.ndarray, said: Said) -> int:
        return len(self.classes) or int(max(labels.max(), said.named.max())) + 1


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
FORMS = {"f1": "f1:CLASS", "cost": "cost:FILE.csv", "quadratic_kappa": "quadratic_kappa:LEAST,...,MOST"}
"""The forms of metrics that take more than a name."""


def find_metric(text: str) -> Metric:
    """Return the metric of this name. For costs, `text` names a CSV or is a `Costs.text`. Raises ConfigError."""
    name, _, rest = text.strip().partition(":")
    if name not in MEMBERS:
        raise ConfigError(f"Unknown metric {name!r}; choose from {nearest(name, list(MEMBERS))}.")
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
        raise ConfigError(f"metric {name} takes nothing after it, not {rest[:40]!r}; say --metric {name}.")
    return own
