"""A study: its cells, how they are searched and confirmed, and the rules that its values keep together."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal, Self, get_args

from study.bounds import BOUNDS, check, check_fields, check_types
from study.canonical import added, canonical, restore
from study.errors import ConfigError, nearest, require
from study.question.cell import Cell, check_names
from study.question.training_settings import Protocol, Recipe, stretched
from study.question.trial_config import require_schema
from study.records import SCHEMA
from study.scoring.metric import Metric
from study.space import Domain, domains, extremes, offered, range_as_dict, range_from_dict
from study.strategies import LINES, STRATEGIES

Explain = Literal["memorisation", "controls", "default"]
Sampler = Literal["tpe", "gp"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, way_out: str = "") -> None:
    """Raise ConfigError for what cannot be a study's name."""
    require(NAME.fullmatch(name) is not None, f"{name!r} cannot be a study's name: it must match {NAME.pattern}.{way_out}")


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
        require(
            cells,
            f"Study {self.name!r}: cells must be a list of Cell, not {self.cells!r}; grid(DATASETS, BACKBONES, STRATEGIES) makes them.",
        )
        check_names(measure=self.measure, search=self.search, explain=self.explain)
        check_types(self)
        require(NAME.fullmatch(self.name) is not None, f"Study name {self.name!r} must match {NAME.pattern} (it names a folder).")
        require(len(self.cells) > 0, f"Study {self.name!r} has no cells. Name at least one dataset, backbone and strategy.")
        require(len({c.id for c in self.cells}) == len(self.cells), f"Study {self.name!r} lists a cell twice.")
        if solved := [c.strategy for c in self.cells if c.strategy in LINES]:
            raise ConfigError(f"Study {self.name!r}: {solved[0]} is part of every study. Leave it out of the strategies.")
        check_fields(self)
        require(
            self.searches <= self.trials and self.trials % self.searches == 0,
            f"searches must divide trials {self.trials} evenly, so that all are given the same, not {self.searches!r}{_whole(self)}.",
        )
        require(
            self.confirm_seeds == 0 or self.confirm_seeds >= self.searches,
            f"confirm_seeds {self.confirm_seeds} must be >= searches {self.searches}: every search's winner is trained again.",
        )
        require(
            self.grace_epochs >= self.protocol.warmup_epochs,
            f"grace_epochs {self.grace_epochs} must be >= warmup_epochs {self.protocol.warmup_epochs}: nothing may be stopped "
            "while warming up.",
        )
        require(self.sampler in get_args(Sampler), f"sampler must be {' or '.join(get_args(Sampler))}, not {self.sampler!r}.")
        self.scored_by.check_margin(self.margin)
        _check_budget(self)
        _check_outer_folds(self)
        _check_questions(self)
        known = get_args(Explain)
        if unknown := [name for name in self.explain if name not in known]:
            raise ConfigError(f"Study {self.name!r}: unknown explain {unknown[0]!r}. Choose from {nearest(unknown[0], list(known))}.")
        options = list(offered(Recipe))
        if foreign := [name for name in self.search if name not in options]:
            raise ConfigError(f"Study {self.name!r}: search cannot add {foreign[0]!r}. Choose from {nearest(foreign[0], options)}.")
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
        require(
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
    require(
        type(check) is int and (check == 0 or check >= 2),
        f"budget_check must be a whole number >= 2 of times max_epochs, or 0 (off), not {check!r}.",
    )
    require(
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
    require(
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
    require(
        searches % k == 0,
        f"searches {searches} must be folds {k} or a multiple of it: search r owns fold r mod {k}. Choose {max(searches // k, 1) * k} or "
        f"{(searches // k + 1) * k if searches > k else 2 * k}. Two passes over the images are folds={k}, searches={2 * k}, "
        f"trials={-(-study.trials // (2 * k)) * 2 * k}, confirm_seeds={2 * k}, budget_check=0.",
    )
    seeds = study.confirm_seeds
    require(
        seeds in (0, searches),
        f"confirm_seeds {seeds} must be searches {searches} with folds {k}: each search's winner predicts its own fold once.",
    )
    require(
        study.budget_check == 0,
        f"budget_check {study.budget_check} decides for all runs on the same validation images, and with folds {k} these are test "
        "images of another fold. Set budget_check=0.",
    )
    named = [c.splits for c in study.cells if c.data.fold is not None]
    require(not named, f"splits {named[0] if named else ''} names one fold, and folds {k} asks for all of them. Leave the fold out.")


def _whole(study: Study) -> str:
    """Return the nearest numbers of trials that its searches can share."""
    if not isinstance(study.searches, int) or study.searches < 1:
        return ""
    low = study.trials // study.searches * study.searches
    return f". Choose {f'{low} or ' if low else ''}{low + study.searches} trials"


def _check_space(study: Study) -> None:
    recipe = {**domains(Recipe), **offered(Recipe)}
    known = [f"{s}.{n}" for s, cls in STRATEGIES.items() for n in {**domains(cls), **recipe}]
    known += [f"recipe.{n}" for n in recipe]
    for key, domain in study.space.items():
        require(
            isinstance(domain, Domain), f"Study {study.name!r}: space[{key!r}] must be Log, Uniform, Integer or Choice, not {domain!r}."
        )
        require(key in known, f"Study {study.name!r}: unknown range {key!r} in space. Choose from {nearest(key, known)}.")
        for value in extremes(domain):  # refuses what no trial could be given
            if (name := key.partition(".")[2]) in BOUNDS:
                check(name, value, f"Study {study.name!r}: space[{key!r}]: {name}")
            elif name == "loss":
                Recipe(loss=value)
