"""The nouns of a study: frozen values, checked when made, identified by the hash of their canonical JSON."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, Literal, Self, get_args

from study.bounds import BOUNDS, check, check_fields, check_types
from study.canonical import added, canonical, late_fields, restore, used_late
from study.errors import ConfigError, nearest
from study.question.naming import DataName
from study.records import SCHEMA, dumps
from study.scoring.metric import DEFAULT, Metric, find_metric, metric_of
from study.space import Choice, Domain, Log, Offered, Uniform, domains, extremes, offered, parse, range_as_dict, range_from_dict
from study.strategies import EVERY, LINES, STRATEGIES, Strategy

Explain = Literal["memorisation", "controls", "default"]
TrainOn = Literal["train", "train+val", "all"]
Loss = Literal["cross_entropy", "focal"]
Schedule = Literal["cosine", "wsd"]
Fit = Literal["square", "pad", "stretch"]
Sampler = Literal["tpe", "gp"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the comparison: data, backbone, strategy, share of the images, budget and image size. All its fields are scientific."""

    dataset: str
    splits: str = "official"  # protocol of its splits, with ":k" for fold k, ":k+s" with validation images s folds further than usual
    backbone: str
    strategy: str
    train_fraction: float = 1.0  # stratified, nested: a smaller fraction is a subset of a larger one
    budget: int = added(1, since=7)  # so many times the protocol's epochs
    image_size: int = added(0, since=7)  # pixels, square; 0 = the protocol's, and what `Study.confirm_size` says of confirm runs

    def __post_init__(self) -> None:
        check_types(self)
        _require(
            self.strategy in EVERY,
            f"Unknown strategy {self.strategy!r}; choose from {nearest(self.strategy, list(STRATEGIES))}.",
        )
        check_fields(self)
        _ = self.data  # raises for what names no data set

    @property
    def data(self) -> DataName:
        """Return its data set with its splits, whose properties are all other forms of the name."""
        return DataName.of(self.dataset, self.splits)

    @property
    def split_protocol(self) -> str:
        """Return `splits` without its fold."""
        return self.data.protocol

    def on_fold(self, fold: int, shift: int = 0) -> Self:
        """Return the cell on this fold of its split protocol, with the validation split so many folds further than usual."""
        return dataclasses.replace(self, splits=self.data.on_fold(fold, shift).splits)

    @property
    def question(self) -> tuple[Any, ...]:
        """Return the fields within which its strategy is compared: all but the strategy, in the order of QUESTION."""
        return tuple(getattr(self, name) for name in QUESTION)

    @property
    def id(self) -> str:
        """Return a readable text that is unique within a study: DATASET/SPLITS/BACKBONE/STRATEGY/FRACTION.

        A cell with a budget of its own ends in ",3x", one with an image size of its own in ",128px".
        """
        own = f"{f',{self.budget}x' * (self.budget != 1)}{f',{self.image_size}px' * (self.image_size != 0)}"
        return f"{self.dataset}/{self.splits}/{self.backbone}/{self.strategy}/{self.train_fraction:g}{own}"


QUESTION = tuple(f.name for f in dataclasses.fields(Cell) if f.name != "strategy")
"""The fields of a cell that make a question: strategies are compared where all of these are equal."""


def question_of(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return `Cell.question` of a cell, or of a question, in JSON, which lacks the late fields that it does not use."""
    return tuple(
        cell.get(f.name, f.default) if "since" in f.metadata else cell[f.name] for f in dataclasses.fields(Cell) if f.name in QUESTION
    )


def line_of(cell: Cell, strategy: str) -> Cell:
    """Return the cell of the line to beat beside this cell. Epochs do not apply to an exact solution, so all budgets share it."""
    return dataclasses.replace(cell, strategy=strategy, budget=1)


def question_json(question: Sequence[Any]) -> dict[str, Any]:
    """Return the question by field name, as `question_of` reads it."""
    unused = {f.name: f.default for f in late_fields(Cell)}
    return {name: value for name, value in zip(QUESTION, question, strict=True) if value != unused.get(name)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Nuisance settings, tuned for every cell and every strategy. Offered fields are off, and searched where a study asks for them."""

    augmentation: Annotated[float, Uniform(0.0, 1.0)] = 0.5  # scales every magnitude of the dataset's policy
    weight_decay: Annotated[float, Log(1e-6, 1e-1)] = 1e-4
    label_smoothing: Annotated[float, Uniform(0.0, 0.2)] = 0.1
    class_weighting: Annotated[float, Offered(Choice(0.0, 0.9, 0.99, 0.999, 0.9999, 1.0))] = added(
        0.0, since=6
    )  # 0: none; 1: inverse frequency; between: beta of the effective number of samples (Cui et al. 2019)
    mixup: Annotated[float, Offered(Uniform(0.0, 0.8))] = added(0.0, since=6)  # alpha of the shares' Beta(alpha, alpha); 0 = off
    cutmix: Annotated[float, Offered(Uniform(0.0, 1.0))] = added(0.0, since=6)  # the same; with both, each batch has one of them
    drop_path: Annotated[float, Offered(Uniform(0.0, 0.3))] = added(0.0, since=6)  # timm's drop_path_rate, of the deepest block
    ema: Annotated[float, Offered(Choice(0.0, 0.9, 0.99, 0.999))] = added(
        0.0, since=6
    )  # decay a step of the running average of weights that is scored and kept; 0 = off
    loss: Annotated[Loss, Offered(Choice(*get_args(Loss)))] = added("cross_entropy", since=7)  # focal: Lin et al. 2017, gamma 2
    balanced_sampling: Annotated[float, Offered(Choice(0.0, 0.5, 1.0))] = added(
        0.0, since=7
    )  # a class of n images is shown in proportion to n^(1 - this): 0 as they are, 1 all classes equally often (Kang et al. 2020)

    def __post_init__(self) -> None:
        check_fields(self)
        _require(self.loss in get_args(Loss), f"loss must be {' or '.join(get_args(Loss))}, not {self.loss!r}.")

    @property
    def blends(self) -> bool:
        """Return True where training images are blended with each other."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The settings that are fixed for a whole study, and stated as a caveat on its report."""

    max_epochs: int = 10
    warmup_epochs: float = 1.0  # linear, at the start of every phase
    batch_size: int = 32  # global: split over workers
    image_size: int = 224  # pixels, square
    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # auto: the faster, measured when the study first starts, kept ever after
    batch_norm: Literal["train", "freeze"] = "train"  # of the *trained* stages; frozen ones are always in eval mode
    grad_clip: float = 1.0  # global norm; inf = off
    workers: int = 1  # DDP: batch-norm statistics are per worker, so this changes numbers
    views: int = 0  # V augmented views per image whose frozen activations are reused; 0 = fresh views, nothing reused
    train_eval_images: int = 1024  # size of the fixed training subset scored in eval mode for the train-val gap
    optimizer: Literal["adamw", "sgd"] = added("adamw", since=2)  # rates are in AdamW's units whatever it is
    wrong_labels: float = added(0.0, since=5)  # share of training images given a wrong label: what a network memorises
    min_steps: int = added(0, since=5)  # optimiser steps of a whole trial, at least: where images are few, an epoch passes over them often
    keep: Literal["last", "best"] = added("last", since=7, before="best")  # which epoch's network a trial keeps, and is scored by
    schedule: Schedule = added("cosine", since=7)  # of the rate after the warm-up; wsd: constant, then down in the last tenth
    fit: Fit = added(
        "square", since=7
    )  # of a picture to the network's square: its centre, all of it with grey around, or all of it stretched
    metric: str = added(
        DEFAULT.text, since=7
    )  # by which everything is chosen and decided (study/scoring/metric.py); costs are kept as numbers

    def __post_init__(self) -> None:
        check_fields(self)
        _require(isinstance(self.metric, str), f"metric must be a text, not {self.metric!r}.")
        object.__setattr__(self, "metric", find_metric(self.metric).text)
        _require(self.precision in ("auto", "fp32", "bf16"), f"precision must be auto, fp32 or bf16, not {self.precision!r}.")
        _require(self.optimizer in ("adamw", "sgd"), f"optimizer must be adamw or sgd, not {self.optimizer!r}.")
        _require(self.schedule in get_args(Schedule), f"schedule must be {' or '.join(get_args(Schedule))}, not {self.schedule!r}.")
        _require(
            self.fit in get_args(Fit),
            "fit must be square (the centre of each picture), pad (all of it, grey around) or stretch (all of it, pulled to a "
            f"square), not {self.fit!r}.",
        )
        _require(self.batch_norm in ("train", "freeze"), f"batch_norm must be train or freeze, not {self.batch_norm!r}.")
        _require(
            self.keep in ("last", "best"),
            f"keep must be last (the last epoch's network) or best (the best epoch's on validation), not {self.keep!r}.",
        )
        _require(self.batch_size % self.workers == 0, f"batch_size {self.batch_size} must be divisible by workers {self.workers}.")

    @property
    def scored_by(self) -> Metric:
        """The metric, as a value."""
        return metric_of({"protocol": {"metric": self.metric}})

    def passes(self, images: int) -> int:
        """Return the number of passes of an epoch over so many training images: one, or as many as `min_steps` asks."""
        steps = self.max_epochs * -(-images // self.batch_size)
        return max(-(-self.min_steps // steps), 1)

    @property
    def at_once(self) -> int:
        """Return the fewest images that a worker must be able to train on at once: half of its part of a batch, where the whole does not
        fit."""
        return max(self.batch_size // self.workers // 2, 1)

    def share(self, images: int, batch_size: int = 0) -> int:
        """Return the fewest of so many training images that a worker gets at a step.

        The batches of a pass differ by one at most, and so do the workers' parts of one.
        """
        return images // -(-images // (batch_size or self.batch_size)) // self.workers if images else 0

    def steps(self, images: int) -> int:
        """Return the optimiser steps of a whole trial on so many training images."""
        return self.max_epochs * self.passes(images) * -(-images // self.batch_size)


def stretched(protocol: Protocol, factor: int) -> Protocol:
    """Return the protocol with so many times the epochs: the schedule is stretched, the warm-up is as long as before.

    Stored views and least steps grow alike, so that reuse costs no strategy a view.
    """
    return dataclasses.replace(
        protocol, max_epochs=factor * protocol.max_epochs, views=factor * protocol.views, min_steps=factor * protocol.min_steps
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a trial's numbers. Equal configs have equal ids on every machine."""

    cell: Cell
    strategy: Strategy
    recipe: Recipe = field(default_factory=Recipe)
    protocol: Protocol = field(default_factory=Protocol)
    seed: int = 0
    subset: int = added(0, since=5)  # which training images a fraction keeps; nested within one subset
    train_on: TrainOn = added("train", since=7)  # with the validation images none are left to choose by; with all none to test on

    def __post_init__(self) -> None:
        check_fields(self)
        _require(self.train_on in get_args(TrainOn), f"train_on must be {' or '.join(get_args(TrainOn))}, not {self.train_on!r}.")
        _require(
            self.strategy.name == self.cell.strategy,
            f"strategy {self.strategy.name!r} does not belong to cell {self.cell.id!r}.",
        )
        _require(
            self.protocol.precision != "auto",
            "a trial's precision must be fp32 or bf16: it changes numbers, so 'auto' is a study's.",
        )

    @property
    def id(self) -> str:
        """Return 16 hex digits of sha256 over the canonical JSON."""
        return hashlib.sha256(dumps(self.as_dict()).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; unused late fields are left out, so that the id stays."""
        return {"schema": SCHEMA, **canonical(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the configuration. Raises ConfigError for another schema, an unknown strategy, a field this version does not know."""
        require_schema(values, "a trial's configuration")
        cell = restore(Cell, values["cell"])
        return cls(
            cell=cell,
            strategy=restore(EVERY[cell.strategy], values["strategy"]),
            recipe=restore(Recipe, values["recipe"]),
            protocol=restore(Protocol, values["protocol"]),
            seed=values["seed"],
            subset=values.get("subset", 0),
            train_on=values.get("train_on", "train"),
        )

    @classmethod
    def default(cls, cell: Cell, protocol: Protocol, seed: int = 0) -> Self:
        """Return the published default of the cell's strategy: trial 0."""
        return cls(cell=cell, strategy=EVERY[cell.strategy](), protocol=protocol, seed=seed)

    def with_values(self, values: dict[str, Any]) -> Self:
        """Return a copy with strategy, recipe, protocol or seed fields set by name. Raises ConfigError on an unknown name or a bad
        value."""
        parts: dict[str, Any] = {"strategy": self.strategy, "recipe": self.recipe, "protocol": self.protocol}
        owner = {f.name: part for part, value in parts.items() for f in dataclasses.fields(value)}
        if unknown := [name for name in values if name != "seed" and name not in owner]:
            raise ConfigError(f"Unknown setting {unknown[0]!r}; choose from {nearest(unknown[0], ['seed', *owner])}.")
        given: dict[str, dict[str, Any]] = {part: {} for part in parts}
        try:
            for name in values.keys() - {"seed"}:
                given[owner[name]][name] = parse(type(parts[owner[name]]), name, values[name])
            parts = {part: dataclasses.replace(value, **given[part]) for part, value in parts.items()}
            return dataclasses.replace(self, seed=parse(TrialConfig, "seed", values.get("seed", self.seed)), **parts)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def tuned(self) -> dict[str, Any]:
        """Return by name the values that every search varies, and late ones in use; none for an exact solution."""
        if self.strategy.exact:
            return {}
        parts = (self.strategy, self.recipe)
        return self.values(name for part in parts for name in dict.fromkeys((*domains(type(part)), *used_late(part))))

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """Return fields of the strategy and the recipe, by name."""
        known = {f.name: part for part in (self.strategy, self.recipe) for f in dataclasses.fields(part)}
        return {name: getattr(known[name], name) for name in names}


def require_schema(values: dict[str, Any], what: str) -> None:
    """Raise ConfigError, saying which versions read it, for values that another schema wrote."""
    _require(values.get("schema") == SCHEMA, f"{what} of schema {values.get('schema')!r}; {WHO_READS}")


WHO_READS = f"this version reads {SCHEMA}. Use the version that wrote it: CHANGELOG.md lists schemas by version."


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question: its cells, the number of trials of each, their confirmation, and the protocol."""

    name: str
    cells: tuple[Cell, ...]
    protocol: Protocol = field(default_factory=Protocol)
    trials: int = 12  # per cell; equal for all
    random_trials: int = 6  # of them after trial 0: i.i.d., never stopped early; the rest is the sampler's, with ASHA
    grace_epochs: int = 3  # no trial is stopped before; >= warm-up
    reduction_factor: int = 3  # of successive halving (ASHA): of this many trials at a rung, one goes on
    confirm_seeds: int = 5
    seed: int = 0
    margin: float = 1.0  # points of macro-F1 below which a difference is not worth having
    worth: float = added(0.0, since=7)  # points of macro-F1 that a cheaper strategy may cost at most to be good enough; 0 = the margin
    about: str = ""
    space: dict[str, Domain] = added(since=2, factory=dict)  # own ranges: {"partial.lr": Log(1e-5, 3e-2), "recipe.weight_decay": ...}
    searches: int = added(
        1, since=3
    )  # independent ones a cell: its trials are split among them, each with draws and a training seed of its own
    measure: tuple[str, ...] = added(("predictions",), since=2)  # what is measured on confirm runs, by name
    search: tuple[str, ...] = added((), since=6)  # recipe fields searched besides, at the ranges they are offered with: ("mixup", "ema")
    line_size: int = added(0, since=7)  # pixels of the line to beat, frozen features with an exact classifier; 0: the network's own
    explain: tuple[Explain, ...] = added(
        (), since=5
    )  # what is trained besides, to explain the verdict and never to change it; "default": published settings, on test
    budget_check: int = added(
        3, since=7, before=0
    )  # before the test set is opened, each winner once at so many times max_epochs, on validation; 0 = off
    longest: int = added(3, since=7, before=1)  # a question is confirmed at most at so many times max_epochs; 1 = never longer
    confirm_size: int = added(0, since=7)  # pixels of the confirm runs; 0 = the protocol's
    folds: int = added(
        1, since=7
    )  # nested cross-validation: search r sees all outer folds but fold r mod K, and its winner predicts that one; 1 = the split as it is
    deliver: bool = added(
        False, since=7
    )  # after the report, train the network that is handed over (study.conduct.delivery); no claim rests on it
    sampler: Sampler = added("tpe", since=7)  # Optuna's, of the guided trials: TPE, or gp (a Gaussian process)
    published: dict[str, Domain] = added(
        since=4, factory=dict
    )  # the strategies' own ranges when the study was begun; its ledger fills it in
    metric: InitVar[str] = ""  # the protocol's, said here: it is kept there alone

    def __post_init__(self, metric: str) -> None:
        if metric:
            object.__setattr__(self, "protocol", dataclasses.replace(self.protocol, metric=metric))
        object.__setattr__(self, "protocol", _ordered(self.protocol, self.cells))
        cells = isinstance(self.cells, (tuple, list)) and all(isinstance(cell, Cell) for cell in self.cells)
        _require(
            cells,
            f"Study {self.name!r}: cells must be a list of Cell, not {self.cells!r}; grid(DATASETS, BACKBONES, STRATEGIES) makes them.",
        )
        _check_names(measure=self.measure, search=self.search, explain=self.explain)
        check_types(self)
        _require(NAME.fullmatch(self.name) is not None, f"Study name {self.name!r} must match {NAME.pattern} (it names a folder).")
        _require(len(self.cells) > 0, f"Study {self.name!r} has no cells; name at least one dataset, backbone and strategy.")
        _require(len({c.id for c in self.cells}) == len(self.cells), f"Study {self.name!r} lists a cell twice.")
        if solved := [c.strategy for c in self.cells if c.strategy in LINES]:
            raise ConfigError(f"Study {self.name!r}: {solved[0]} is part of every study; leave it out of the strategies.")
        check_fields(self)
        _require(
            self.searches <= self.trials and self.trials % self.searches == 0,
            f"searches must divide trials {self.trials} evenly, so that all are given the same, not {self.searches!r}{_whole(self)}.",
        )
        _require(
            self.confirm_seeds == 0 or self.confirm_seeds >= self.searches,
            f"confirm_seeds {self.confirm_seeds} must be >= searches {self.searches}: every search's winner is trained again.",
        )
        _require(
            self.grace_epochs >= self.protocol.warmup_epochs,
            f"grace_epochs {self.grace_epochs} must be >= warmup_epochs {self.protocol.warmup_epochs}: nothing may be stopped "
            "while warming up.",
        )
        _require(self.sampler in get_args(Sampler), f"sampler must be {' or '.join(get_args(Sampler))}, not {self.sampler!r}.")
        self.scored_by.check_margin(self.margin)
        _check_budget(self)
        _check_outer_folds(self)
        _check_questions(self)
        known = get_args(Explain)
        if unknown := [name for name in self.explain if name not in known]:
            raise ConfigError(f"Study {self.name!r}: unknown explain {unknown[0]!r}; choose from {nearest(unknown[0], list(known))}.")
        options = list(offered(Recipe))
        if foreign := [name for name in self.search if name not in options]:
            raise ConfigError(f"Study {self.name!r}: search cannot add {foreign[0]!r}; choose from {nearest(foreign[0], options)}.")
        _check_space(self)

    @property
    def scored_by(self) -> Metric:
        """The metric that it is chosen and decided by."""
        return self.protocol.scored_by

    def asked(self, strategy: str) -> tuple[str, ...]:
        """Return the recipe fields that are searched because the study asks: in `search`, or by a range of its own."""
        own = {key.partition(".")[2] for key in self.space if key.partition(".")[0] in (strategy, "recipe")}
        return tuple(name for name in offered(Recipe) if name in own or name in self.search)

    def ranges(self, cell: Cell) -> dict[str, Domain]:
        """Return the range of every searched field of the cell, strategy first.

        A range is the study's own, or the one published when the study was begun, or today's.
        """
        if cell.strategy in LINES:
            return {}
        known = self.published | self.space
        today = {**domains(STRATEGIES[cell.strategy]), **domains(Recipe)}
        today |= {name: offered(Recipe)[name] for name in self.asked(cell.strategy)}
        return {name: known.get(f"{cell.strategy}.{name}", known.get(f"recipe.{name}", domain)) for name, domain in today.items()}

    def protocol_of(self, cell: Cell) -> Protocol:
        """Return the protocol of the cell's search: the study's, at the cell's own budget and size of images."""
        own = stretched(self.protocol, cell.budget)
        return dataclasses.replace(own, image_size=cell.image_size or own.image_size)

    def confirmed_protocol(self, cell: Cell, factor: int = 1) -> Protocol:
        """Return the protocol of the cell's confirm runs; `factor`: times its epochs, where a budget check found that it pays."""
        own = stretched(self.protocol_of(cell), factor)
        return dataclasses.replace(own, image_size=self.confirm_size or own.image_size)

    def is_longest(self, cell: Cell) -> bool:
        """Return True where no cell asks the same at a longer budget. Otherwise the study itself measures the effect of longer
        training."""
        alike = dataclasses.replace(cell, budget=1)
        return not any(c.budget > cell.budget and dataclasses.replace(c, budget=1) == alike for c in self.cells)

    def search_of(self, number: int, searches: int | None = None) -> int:
        """Return the search whose winner confirm run `number` trains: search r of R has the runs r, r + R, ..."""
        return number % (searches or self.searches)

    def place_of(self, number: int) -> tuple[int, int]:
        """Return (search r, its n-th trial) of search trial `number` of a cell: r + n R of R searches.

        With outer folds a pass follows the one before it, so that another pass changes no number.
        """
        if self.folds == 1:
            return number % self.searches, number // self.searches
        a_pass, within = divmod(number, self.folds * (self.trials // self.searches))
        return a_pass * self.folds + within % self.folds, within // self.folds

    def number_of(self, search: int, nth: int) -> int:
        """Return the number of a search's trial, the inverse of `place_of`."""
        if self.folds == 1:
            return search + nth * self.searches
        a_pass, fold = divmod(search, self.folds)
        return (a_pass * (self.trials // self.searches) + nth) * self.folds + fold

    def cell_of(self, cell: Cell, search: int) -> Cell:
        """Return the cell as its search number `search` sees it: with outer folds, on the fold that this search owns.

        Searches of one fold take turns with their validation images, so that they share the test fold alone.
        """
        return cell.on_fold(search % self.folds, search // self.folds % (self.folds - 1)) if self.folds > 1 else cell

    def begun(self, before: Mapping[str, Domain]) -> Self:
        """Return the study with the ranges in force from now on, those of `before` first: a later version of the strategies changes
        none."""
        today = {f"{s}.{n}": domain for s in dict.fromkeys(c.strategy for c in self.cells) for n, domain in domains(STRATEGIES[s]).items()}
        recipe = domains(Recipe) | {n: d for n, d in offered(Recipe).items() if n in self.search}
        return dataclasses.replace(self, published={**today, **{f"recipe.{n}": d for n, d in recipe.items()}, **before})

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as study.json holds them."""
        values: dict[str, Any] = {"schema": SCHEMA, **canonical(self)}
        for name in ("space", "published"):
            if ranges := getattr(self, name):
                values[name] = {k: range_as_dict(v) for k, v in ranges.items()}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the study. Raises ConfigError for another schema, or a field this version does not know."""
        require_schema(values, "a study")
        values = {k: v for k, v in values.items() if k != "schema"}
        _require(
            (folds := values.pop("confirm_folds", 1)) == 1,
            f"it was begun with confirm_folds {folds}, which trained on other folds what had been chosen on images of these folds. "
            "This version has folds, whose searches never see the images of their fold: ask anew under another name.",
        )
        values["cells"] = tuple(restore(Cell, c) for c in values["cells"])
        values["protocol"] = restore(Protocol, values["protocol"])
        values["measure"] = tuple(values.get("measure", ("predictions",)))
        values["explain"] = tuple(values.get("explain", ()))
        values["search"] = tuple(values.get("search", ()))
        for name in ("space", "published"):
            values[name] = {k: range_from_dict(v) for k, v in values.get(name, {}).items()}
        return restore(cls, values)


def _ordered(protocol: Protocol, cells: Sequence[Any]) -> Protocol:
    """Return the protocol whose quadratic kappa goes by the order that the data's names have, where it names none itself."""
    if not isinstance(protocol, Protocol) or protocol.metric != "quadratic_kappa":
        return protocol
    orders = {cell.data.ordered for cell in cells if isinstance(cell, Cell)}
    order = orders.pop() if len(orders) == 1 else ()
    return dataclasses.replace(protocol, metric=f"quadratic_kappa:{','.join(order)}") if order else protocol


def foreign_tasks(study: Study) -> tuple[str, ...]:
    """Return the study's data sets, each on its first split protocol: to each other they are foreign tasks."""
    first: dict[str, str] = {}
    for cell in study.cells:
        first.setdefault(cell.dataset, cell.data.whole.text)
    return tuple(first.values())


def _check_budget(study: Study) -> None:
    check, longest = study.budget_check, study.longest
    _require(
        type(check) is int and (check == 0 or check >= 2),
        f"budget_check must be a whole number >= 2 of times max_epochs, or 0 (off), not {check!r}.",
    )
    _require(
        check == 0 or longest == 1 or longest >= check,
        f"longest {longest} must be 1 (never longer), or at least budget_check {check}: what was not checked is not confirmed. Set "
        f"longest={check}.",
    )
    for name in ("max_epochs", "views", "min_steps"):  # what a longer confirmation trains with
        times = max(check, longest) * max(c.budget for c in study.cells)
        if refused := BOUNDS[name].refusal(f"{name} at {times} times its number", times * getattr(study.protocol, name)):
            raise ConfigError(f"{refused} Lower {name}, budget_check or longest.")


def _check_questions(study: Study) -> None:
    """Check that sizes of images are named once, and confirm runs have one size. Raises ConfigError."""
    sized = [c for c in study.cells if c.image_size]
    _require(
        not sized or not study.confirm_size,
        f"confirm_size {study.confirm_size} and image_sizes do not go together: each question is confirmed at its own size "
        f"({sized[0].image_size if sized else 0} px here). Leave out one of both.",
    )
    usual = study.protocol.image_size
    asked = {c for c in study.cells if not c.image_size}
    if twice := [c for c in sized if c.image_size == usual and dataclasses.replace(c, image_size=0) in asked]:
        raise ConfigError(
            f"Study {study.name!r} lists {twice[0].id} twice: image_size 0 means the protocol's, which is {usual}. Leave out one "
            f"of 0 and {usual}."
        )


def _check_outer_folds(study: Study) -> None:
    """Check that with outer folds every search owns one, and its winner is trained once more. Raises ConfigError."""
    k, searches = study.folds, study.searches
    if k == 1:
        return
    _require(
        searches % k == 0,
        f"searches {searches} must be folds {k} or a multiple of it: search r owns fold r mod {k}. Choose {max(searches // k, 1) * k} or "
        f"{(searches // k + 1) * k if searches > k else 2 * k}. Two passes over the images are folds={k}, searches={2 * k}, "
        f"trials={-(-study.trials // (2 * k)) * 2 * k}, confirm_seeds={2 * k}, budget_check=0.",
    )
    seeds = study.confirm_seeds
    _require(
        seeds in (0, searches),
        f"confirm_seeds {seeds} must be searches {searches} with folds {k}: each search's winner predicts its own fold once.",
    )
    _require(
        study.budget_check == 0,
        f"budget_check {study.budget_check} decides for all runs on the same validation images, and with folds {k} these are test "
        "images of another fold. Set budget_check=0.",
    )
    named = [c.splits for c in study.cells if c.data.fold is not None]
    _require(not named, f"splits {named[0] if named else ''} names one fold, and folds {k} asks for all of them. Leave the fold out.")


def _whole(study: Study) -> str:
    """Return the nearest numbers of trials that its searches can share."""
    if not isinstance(study.searches, int) or study.searches < 1:
        return ""
    low = study.trials // study.searches * study.searches
    return f"; choose {f'{low} or ' if low else ''}{low + study.searches} trials"


def _check_space(study: Study) -> None:
    recipe = {**domains(Recipe), **offered(Recipe)}
    known = [f"{s}.{n}" for s, cls in STRATEGIES.items() for n in {**domains(cls), **recipe}]
    known += [f"recipe.{n}" for n in recipe]
    for key, domain in study.space.items():
        _require(
            isinstance(domain, Domain), f"Study {study.name!r}: space[{key!r}] must be Log, Uniform, Integer or Choice, not {domain!r}."
        )
        _require(key in known, f"Study {study.name!r}: unknown range {key!r} in space; choose from {nearest(key, known)}.")
        for value in extremes(domain):  # refuses what no trial could be given
            if (name := key.partition(".")[2]) in BOUNDS:
                check(name, value, f"Study {study.name!r}: space[{key!r}]: {name}")
            elif name == "loss":
                Recipe(loss=value)


def grid(
    datasets: tuple[str, ...] | list[str],
    backbones: tuple[str, ...] | list[str],
    strategies: tuple[str, ...] | list[str],
    train_fractions: tuple[float, ...] = (1.0,),
    budgets: tuple[int, ...] = (1,),
    image_sizes: tuple[int, ...] = (0,),
) -> tuple[Cell, ...]:
    """Return every combination as cells. A dataset may carry its split protocol after "@": "deepweeds@session".

    `budgets`: times the protocol's max_epochs; `image_sizes`: pixels, 0 for the protocol's. Each is a question of its own, tuned and
    confirmed separately. Raises ConfigError.
    """
    _check_names(datasets=datasets, backbones=backbones, strategies=strategies)
    _require(isinstance(train_fractions, (tuple, list)), f"train_fractions must be a list of shares, not {train_fractions!r}: (0.1, 1.0).")
    _check_several("budgets", budgets, "a budget once, as in budgets=(1, 3, 10)")
    _check_several("image_sizes", image_sizes, "a size once, as in image_sizes=(64, 128, 224)")
    return tuple(
        Cell(dataset=d.dataset, splits=d.splits, backbone=b, strategy=s, train_fraction=f, budget=n, image_size=px)
        for d in map(DataName.parse, datasets)
        for b in backbones
        for f in train_fractions
        for n in budgets
        for px in image_sizes
        for s in strategies
    )


def _check_names(**lists: object) -> None:
    """Raise ConfigError for a text in place of a list of names, in which each letter would be a name."""
    for name, values in lists.items():
        several = isinstance(values, (tuple, list)) and all(isinstance(v, str) for v in values)
        _require(
            several,
            f"{name} must be a list of names, each a text, not {values!r}: {[str(values)] if isinstance(values, str) else ['...']}.",
        )


def _check_several(name: str, values: Sequence[int], way_out: str) -> None:
    _require(
        isinstance(values, (tuple, list)) and len(values) > 0, f"{name} must be a tuple of whole numbers, not {values!r}. Give {way_out}."
    )
    twice = next((v for k, v in enumerate(values) if v in values[:k]), None)
    _require(twice is None, f"{name} names {twice!r} twice. Give {way_out}.")
