"""A study for one's own images: the most that fits into the hours given, by what was measured of images and machine.

One ladder of studies, each rung asking for more than the one below it; the highest whose price fits is taken, so more hours never
give less. In the order in which time buys them: five fresh seeds for every winner and a small equal search; a fair search (epochs,
then trials); larger images; independent searches; more strategies. Nothing here looks at a disk or a clock.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from study.config import Cell, Protocol, Study, grid
from study.errors import ConfigError

NAME = "mine"
STRATEGIES = ("linear_probe", "partial", "full")
MORE_STRATEGIES = ("layer_decay", "lp_ft")
SEEDS = 5  # confirm runs of every winner, whatever the hours
TRIALS = (4, 6, 8)  # a search: the published default, then random ones, then ones that learn from these
SEARCHES = ((3, 6), (5, 10))  # independent ones, and the confirm seeds they share; of two, the spread is hardly known
STEPS = 300  # optimiser steps a trial, where 5 to 20 epochs hold them
BATCHES = (32, 16, 8)
SMALLEST_PX = 64
STEP_PX = 32  # every stage of a convolutional network halves: five times
RESERVE = 1.1  # times the price: other programs run too


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What of a data set's images decides."""

    dataset: str  # as `grid` takes it: NAME[@SPLITS]
    train: int
    val: int
    test: int
    classes: int
    side: int  # median shorter side, pixels


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds an image, in one of the trials that run at once."""

    train: float  # augmented, forward, backward, its share of the optimiser's step
    evaluate: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured."""

    at_once: int  # trials
    start: float  # seconds of a whole study that no trial takes: start-up, the images read, the report
    trial: float  # seconds a trial besides its images: the network made, its weights kept
    paces: Mapping[tuple[str, str], Mapping[int, Pace]]  # by (backbone, strategy), then by image size

    def pace(self, cell: Cell, size: int) -> Pace:
        """Measured, or between two sizes that were: in proportion to pixels. Below the smallest, the smallest's."""
        known = self.paces[cell.backbone, cell.strategy]
        if size in known:
            return known[size]
        low, high = max((s for s in known if s < size), default=0), min((s for s in known if s > size), default=0)
        if not low:
            return known[high]
        if not high:
            return _times(known[low], (size / low) ** 2)
        share = (size**2 - low**2) / (high**2 - low**2)
        a, b = known[low], known[high]
        return Pace(train=a.train + share * (b.train - a.train), evaluate=a.evaluate + share * (b.evaluate - a.evaluate))


def _times(pace: Pace, factor: float) -> Pace:
    return Pace(train=factor * pace.train, evaluate=factor * pace.evaluate)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a study, at most: early stopping and stored activations make it less."""

    start: float
    search: float
    confirm: float

    @property
    def hours(self) -> float:
        return RESERVE * (self.start + self.search + self.confirm) / 3600


def cost_of(study: Study, pictures: Sequence[Pictures], machine: Machine) -> Cost:
    """By list scheduling's bound (Graham 1969): work shared by the trials that run at once, and the longest trial waited for."""
    by_name = {p.dataset: p for p in pictures}

    def trial(cell: Cell, confirmed: bool) -> float:
        own, p = by_name[_named(cell)], study.protocol
        pace = machine.pace(cell, p.image_size)
        train = round(own.train * cell.train_fraction)
        epoch = train * p.passes(train) * pace.train + (own.val + min(train, p.train_eval_images)) * pace.evaluate
        return machine.trial + p.max_epochs * epoch + confirmed * (machine.trial + (own.val + own.test) * pace.evaluate)

    def stage(runs: int, confirmed: bool) -> float:
        each = [trial(c, confirmed) for c in study.cells]
        return (runs * sum(each) + (machine.at_once - 1) * max(each) * (runs > 0)) / machine.at_once

    runs = study.confirm_seeds * study.confirm_folds
    return Cost(start=machine.start, search=stage(study.trials, False), confirm=stage(runs, True))


def _named(cell: Cell) -> str:
    return cell.dataset if cell.splits == "official" else f"{cell.dataset}@{cell.splits}"


# ---- the ladder -------------------------------------------------------------------------------------------


def sizes(pictures: Sequence[Pictures], own: int) -> tuple[int, ...]:
    """Image sizes worth trying: up to the images' own and the size the network was made for (`own`), whichever is less."""
    largest = max(p.side for p in pictures)
    top = min(own, max(SMALLEST_PX, math.ceil(largest / STEP_PX) * STEP_PX))
    steps = [s for s in range(SMALLEST_PX, top, STEP_PX)]
    return (*steps, top)


def batch_size(pictures: Sequence[Pictures]) -> int:
    """The largest that gives ten steps an epoch; batch norm wants eight images."""
    fewest = min(p.train for p in pictures)
    return next((b for b in BATCHES if fewest >= 10 * b), BATCHES[-1])


def epochs(pictures: Sequence[Pictures], batch: int) -> int:
    """As many as `STEPS` optimiser steps take, 5 to 20."""
    return min(max(math.ceil(STEPS * batch / min(p.train for p in pictures)), 5), 20)


def ladder(
    pictures: Sequence[Pictures],
    backbones: Sequence[str],
    sizes: Sequence[int],
    *,
    strategies: Sequence[str] | None = None,
    precision: str = "fp32",
    name: str = NAME,
    settle: Callable[[Study], Study] = lambda study: study,
) -> tuple[Study, ...]:
    """Studies from the smallest useful to the largest that is worth it. `strategies` given are the ones; `settle` sets what the user
    gave, and what it refuses is no rung. Raises ConfigError where it refuses all."""
    batch = batch_size(pictures)
    most = epochs(pictures, batch)
    base = {"epochs": max(-(-most // 2), 3), "trials": TRIALS[0], "size": min(sizes), "searches": 1, "seeds": SEEDS}
    first = tuple(strategies or STRATEGIES)

    def rungs() -> Iterator[tuple[dict[str, int], tuple[str, ...]]]:
        now, chosen = dict(base), first
        yield dict(now), chosen
        steps: list[dict[str, int]] = [{"epochs": most}, *({"trials": t} for t in TRIALS[1:]), *({"size": s} for s in sorted(sizes)[1:])]
        for step in [*steps, *({"searches": r, "seeds": s} for r, s in SEARCHES)]:
            now |= step
            yield dict(now), chosen
        for more in () if strategies else MORE_STRATEGIES:
            chosen = (*chosen, more)
            yield dict(now), chosen

    found: list[Study] = []
    refused: ConfigError | None = None
    for now, chosen in rungs():
        per, searches = now["trials"], now["searches"]
        study = Study(
            name=name,
            cells=grid([p.dataset for p in pictures], list(backbones), list(chosen)),
            protocol=Protocol(
                max_epochs=now["epochs"],
                batch_size=batch,
                image_size=now["size"],
                precision="bf16" if precision == "bf16" else "fp32",
                views=now["epochs"],  # one for each epoch: reuse must cost no strategy a view
                train_eval_images=256,
            ),
            trials=per * searches,
            random_trials=min(per - 1, 5) * searches,
            searches=searches,
            grace_epochs=max(now["epochs"] // 3, 1),
            reduction_factor=2,
            confirm_seeds=now["seeds"],
            budget_check=0,  # its hours are in no price here
        )
        try:
            study = _follow(settle(study), study)
        except ConfigError as error:
            refused = error
            continue
        if study not in found:
            found.append(study)
    if not found:
        assert refused is not None
        raise refused
    return tuple(found)


def _follow(study: Study, was: Study) -> Study:
    """What goes by the epochs follows them where they were given, unless it was given too."""
    p, before = study.protocol, was.protocol
    if p.max_epochs == before.max_epochs:
        return study
    views = p.max_epochs if p.views == before.views else p.views
    grace = max(p.max_epochs // 3, math.ceil(p.warmup_epochs), 1) if study.grace_epochs == was.grace_epochs else study.grace_epochs
    return replace(study, protocol=replace(p, views=views), grace_epochs=grace)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The rung taken, and all there were."""

    hours: float
    rungs: tuple[tuple[Study, Cost], ...]
    taken: int

    @property
    def study(self) -> Study:
        return self.rungs[self.taken][0]

    @property
    def cost(self) -> Cost:
        return self.rungs[self.taken][1]

    def dearer(self, value: Callable[[Study], object]) -> tuple[object, float] | None:
        """The next value of something on the ladder, and the hours that it takes; None where there is no more."""
        own = value(self.study)
        return next(((value(s), c.hours) for s, c in self.rungs[self.taken + 1 :] if value(s) != own and c.hours > self.hours), None)


def choose(rungs: Sequence[Study], pictures: Sequence[Pictures], machine: Machine, hours: float) -> Choice:
    """The highest rung whose price fits. Raises ConfigError saying what would hold where none does."""
    priced = tuple((study, cost_of(study, pictures, machine)) for study in rungs)
    fitting = [k for k, (_, cost) in enumerate(priced) if cost.hours <= hours]
    if not fitting:
        study, cost = min(priced, key=lambda rung: rung[1].hours)
        raise ConfigError(
            f"{hours:g} h hold no study with confirmation: the smallest useful one ({study.protocol.image_size} px, "
            f"{study.protocol.max_epochs} epochs, {study.trials} trials and {study.confirm_seeds} confirm runs of each of {len(study.cells)} "
            f"cells, {cost.start / 60:.1f} minutes of start-up and report) needs about {enough(cost.hours):g} h: --hours {enough(cost.hours):g}."
        )
    return Choice(hours=hours, rungs=priced, taken=max(fitting))


def enough(hours: float) -> float:
    """Rounded up to what one would type: 0.37 -> 0.4, 2.31 -> 2.4, 37.2 -> 38."""
    step = 10 if hours < 10 else 1
    return math.ceil(hours * step - 1e-9) / step


# ---- in words ---------------------------------------------------------------------------------------------


def reasons(
    choice: Choice, pictures: Sequence[Pictures], machine: Machine, own: int, given: frozenset[str] = frozenset()
) -> list[tuple[str, str, str]]:
    """(what, chosen, why) for every choice; `own`: the size the network was made for; `given`: the names of what the user set."""
    study, p = choice.study, choice.study.protocol
    train = min(x.train for x in pictures)
    per = study.trials // study.searches
    taught = max(per - 1 - -(-study.random_trials // study.searches), 0)
    own_side = max(x.side for x in pictures)
    stopped = "the images are no larger" if own_side <= p.image_size else f"the network was made for {own} px"
    strategies = tuple(dict.fromkeys(c.strategy for c in study.cells))
    rows = [
        *(
            (
                "images",
                f"{x.train + x.val + x.test}",
                f"{x.train} train, {x.val} validation, {x.test} test; {x.classes} classes; shorter side {x.side} px (median)",
            )
            for x in pictures
        ),
        ("confirm_seeds", f"{study.confirm_seeds}", f"fresh seeds for every winner, scored once on test images; never fewer than {SEEDS}"),
        (
            "strategies",
            ", ".join(strategies),
            "from the head alone to everything"
            + _dearer(choice, lambda s: len({c.strategy for c in s.cells}), "{} strategies", "and the time holds two more"),
        ),
        (
            "trials",
            f"{study.trials}",
            f"a strategy, equal for all; a search: the published default, {per - 1 - taught} random"
            + (f", {taught} that learn from these" if taught else "")
            + _dearer(choice, lambda s: s.trials // s.searches, "{} a search"),
        ),
        (
            "max_epochs",
            f"{p.max_epochs}",
            f"{p.steps(train)} optimiser steps a trial" + _dearer(choice, lambda s: s.protocol.max_epochs, "{} epochs"),
        ),
        ("batch_size", f"{p.batch_size}", f"{train} training images: {-(-train // p.batch_size)} steps an epoch"),
        ("image_size", f"{p.image_size}", (_dearer(choice, lambda s: s.protocol.image_size, "{} px") or f"; {stopped}").removeprefix("; ")),
        (
            "searches",
            f"{study.searches}",
            ("the verdict is about strategies" if study.searches > 1 else "the verdict is about the settings found")
            + _dearer(choice, lambda s: s.searches, "{} searches"),
        ),
        ("precision", p.precision, "the faster, as measured"),
        (
            "time",
            f"{choice.cost.hours:.2f} of {choice.hours:g} h",
            f"at most: search {_minutes(choice.cost.search)}, confirmation {_minutes(choice.cost.confirm)}, "
            f"start-up and report {_minutes(choice.cost.start)}, a tenth in reserve; {_at_once(machine.at_once)}",
        ),
    ]
    return [(what, value, "given" if what in given else why) for what, value, why in rows]


def _dearer(choice: Choice, value: Callable[[Study], object], text: str, most: str = "") -> str:
    above = choice.dearer(value)
    if above is None:
        return f"; {most}" if most and value(choice.study) == value(choice.rungs[-1][0]) != value(choice.rungs[0][0]) else ""
    return f"; {text.format(above[0])} would take {enough(above[1]):g} h"


def _at_once(trials: int) -> str:
    return f"{trials} trial{'s' * (trials != 1)} at once"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else "< 1 min"


def with_about(study: Study, hours: float, at_once: int) -> Study:
    """The study, saying what it was chosen for, unless the user said what it is about."""
    return (
        study
        if study.about
        else replace(study, about=f"Chosen for these images and {hours:g} hours on a machine that runs {_at_once(at_once)}.")
    )
