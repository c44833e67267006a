"""A study for one's own images: what a number of hours buys, the most important first.

A ladder is a list of changes to the smallest study. Each is bought if the study with it still ends in time; a change that does not fit is
left out and the next one is tried. So more hours never give less. The order: frozen features at full size, which every study has; then
one strategy trained fairly; pixels, up to the network's own; more strategies; a budget check; longer training; repeats. Hours that are
left when the search has ended are spent by `study.budget.leftover`. `study.budget.bought` buys. Nothing here reads a disk or a clock.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from study.budget.price import Pictures
from study.errors import ConfigError
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol

NAME = "mine"
HOURS = 1.0  # where none are given
HEAD = ("linear_probe",)  # where nothing dearer fits: what it trains, the line to beat solves exactly
STRATEGIES = ("partial", "full")  # from the cheaper to the dearer
MORE_STRATEGIES = ("layer_decay", "lp_ft")
SEEDS = 5  # confirm runs of every winner, whatever the hours
MOST_SEEDS = 20  # where nothing else is left to buy
TRIALS = 4  # a search: the published default, then random ones; more hardly find better ones once training is long enough
SEARCHES = (5, 10)  # independent ones; of two, the spread is hardly known
COUNTS = (1, 5, 10, 2, 3, 4, 6, 7, 8, 9)  # searches to begin with: one, or what the user's own numbers allow
CHECK = 3  # times the epochs, of the budget check and of the longest confirmation
FAIR_STEPS, FAIR_EPOCHS = 300, 10  # below, full fine-tuning has hardly begun to learn
MANY_STEPS, FEW_EPOCHS = 600, 5  # of many images, fewer epochs hold as many steps
LONG, LONGEST = (1000, 60), (3000, 200)  # steps, and epochs at most
NARROWER = "a narrower interval"
VIEWS = 10  # of an image, whose frozen activations are kept: more epochs show them again
BATCHES = (32, 16, 8)
SMALLEST_PX = 64
STEP_PX = 32  # every stage of a convolutional network halves: five times
DELIVERY = 0.15  # of the hours, for training what is handed over


def reserved(study: Study) -> float:
    """Return the share of the hours that is set aside for delivery."""
    return DELIVERY if study.deliver else 0.0


def sizes(own: int) -> tuple[int, ...]:
    """Return image sizes worth trying, up to the size that the network was made for (`own`).

    Smaller images are enlarged to it, since its filters expect things at that scale (study/conduct/lines.py).
    """
    top = max(own, SMALLEST_PX)
    return (*range(SMALLEST_PX, top, STEP_PX), top)


def half(size: int, sizes: Sequence[int]) -> int:
    """Return the smallest of `sizes` with at least half of `size` a side: a search at it costs a quarter of one at `size`."""
    return min(s for s in (*sizes, size) if 2 * s >= size)


def batch_size(pictures: Sequence[Pictures]) -> int:
    """Return the largest batch size that gives ten steps an epoch; batch norm needs eight images."""
    fewest = min(p.train for p in pictures)
    return next((b for b in BATCHES if fewest >= 10 * b), BATCHES[-1])


def fair_epochs(train: int, batch: int) -> int:
    """Return the epochs below which a strategy is not trained fairly: 300 steps and ten epochs, or for many images 600 steps and five."""
    steps = -(-train // batch)
    least = min(max(-(-MANY_STEPS // steps), FEW_EPOCHS), FAIR_EPOCHS)
    return min(max(-(-FAIR_STEPS // steps), least), LONG[1])


def _epochs(train: int, batch: int, steps: int, most: int) -> int:
    return max(min(-(-steps // -(-train // batch)), most), fair_epochs(train, batch))


def _between(low: int, high: int) -> Iterator[int]:
    """Yield numbers from above `low` to `high` in steps of a tenth."""
    now = low
    while now < high:
        now = min(max(now + 1, round(1.1 * now)), high)
        yield now


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts of a study that the hours decide."""

    strategies: tuple[str, ...]
    size: int  # pixels of the confirm runs
    epochs: int
    searches: int = 1
    check: int = 0
    longest: int = 1
    whole_search: bool = False  # searched at the pixels that are confirmed
    seeds: int = SEEDS  # confirm runs, or one a search where that is more
    folds: int = 1  # by outer folds: each search owns one, each winner is trained once more


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that hours may buy. Without a `title` it is a step towards the next that has one."""

    fields: dict[str, Any]  # of a Plan
    title: str = ""
    why: str = ""
    adds: str = ""  # the strategy that it adds
    after: str = ""  # the strategy without which it is not worth having
    whole: bool = False  # on one split: for hours that hold no outer folds


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """All that may be bought for some images. `settle` sets what the user gave; refused changes are left out."""

    pictures: tuple[Pictures, ...]
    backbones: tuple[str, ...]
    sizes: tuple[int, ...]
    strategies: tuple[str, ...] = ()  # given by the user, and then the only ones
    precision: str = "fp32"
    name: str = NAME
    settle: Callable[[Study], Study] = field(default=lambda study: study)

    @property
    def batch(self) -> int:
        return batch_size(self.pictures)

    @property
    def fewest(self) -> int:
        """Return the number of training images of the smallest data set."""
        return min(p.train for p in self.pictures)

    def base(self) -> tuple[Plan, Study]:
        """Return the smallest useful study. Raises ConfigError where the user's own settings allow none."""
        fair = fair_epochs(self.fewest, self.batch)
        refused: ConfigError | None = None
        for searches in COUNTS:
            plan = Plan(strategies=self.strategies or HEAD, size=min(self.sizes), epochs=fair, searches=searches)
            try:
                return plan, self.study(plan)
            except ConfigError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    @property
    def folds(self) -> int:
        """Into how many folds the images should be cut, of all data sets."""
        return min(p.folds for p in self.pictures)

    @property
    def full_px(self) -> int:
        """Return the smallest size worth trying at which no image is shrunk; else the largest."""
        largest = max(p.side for p in self.pictures)
        return next((s for s in self.sizes if s >= largest), self.sizes[-1])

    @property
    def trained(self) -> tuple[str, ...]:
        """Return the strategies that any of its studies may train."""
        bought = (name for change in self.changes() for name in change.fields.get("strategies", ()))
        return self.strategies or tuple(dict.fromkeys((*HEAD, *bought)))

    def changes(self) -> Iterator[Change]:
        """Yield the changes in the order in which they are bought."""
        top, own = self.full_px, self.sizes[-1]
        middle = half(top, self.sizes)
        fair = fair_epochs(self.fewest, self.batch)
        long, longest = (_epochs(self.fewest, self.batch, *most) for most in (LONG, LONGEST))
        cheaper, dearer = STRATEGIES
        yield from self._pixels(self.sizes[0], middle, "half of what the images and the network have")
        yield from self._strategy(
            (cheaper,), f"the last stages are trained too, instead of {HEAD[0]}, whose head the line to beat solves exactly"
        )
        yield from self._pixels(middle, top, "all that the images or the network have: before any repeats")
        yield from self._strategy((cheaper, dearer), "everything is trained, fairly or not at all")
        if own > top:
            yield Change(fields={"size": own}, title=f"{own} px", why="what the network was made for: smaller images are enlarged to it")
        yield Change(
            fields={"check": CHECK},
            title=f"budget check at {CHECK} times the epochs",
            why="tells whether a strategy was cut short, before the test set is opened",
        )
        yield from self._longer(fair, long, "longer training changes scores, and the ranking")
        for searches, why in zip(SEARCHES, ("the verdict is about strategies, not about the settings found", NARROWER), strict=True):
            if self.folds > 1:
                yield self._folded(searches)
            yield Change(fields={"searches": searches}, title=f"{searches} searches", why=why, whole=self.folds > 1)
        if top > self.sizes[0]:
            yield Change(fields={"whole_search": True}, title="searched at the confirmed size", why="no setting has to carry over")
        yield Change(
            fields={"check": CHECK, "longest": CHECK},
            title=f"confirmed at {CHECK} times the epochs where a strategy gains",
            why="a question is answered at the budget that its strategies need",
        )
        for k in range(len(MORE_STRATEGIES)):
            yield from self._strategy((*STRATEGIES, *MORE_STRATEGIES[: k + 1]), "another way of training everything", after=dearer)
        yield from self._longer(long, longest, "all that a small data set can use", after="" if self.strategies else dearer)
        yield from (Change(fields={"seeds": seeds}) for seeds in range(SEEDS + 1, MOST_SEEDS))
        yield Change(fields={"seeds": MOST_SEEDS}, title=f"{MOST_SEEDS} confirm runs", why=NARROWER)

    def _pixels(self, low: int, high: int, why: str) -> Iterator[Change]:
        """Yield every size above `low`, up to `high`, which is what the others lead to."""
        yield from (Change(fields={"size": size}, title=f"{size} px") for size in self.sizes if low < size < high)
        if high > low:
            yield Change(fields={"size": high}, title=f"{high} px", why=why)

    def _strategy(self, chosen: tuple[str, ...], why: str, after: str = "") -> Iterator[Change]:
        """Yield the last of these strategies beside all before it; nothing where the user gave the strategies."""
        if not self.strategies:
            yield Change(fields={"strategies": chosen}, adds=chosen[-1], after=after, title=chosen[-1], why=why)

    def _folded(self, searches: int) -> Change:
        """Outer folds: their validation images are test images of other folds, so no budget can be checked on them."""
        first = searches == SEARCHES[0]
        each = f"{searches // self.folds} searches of each" if searches > self.folds else "a search of each"
        why = "every image is a test image once, and the verdict is about strategies" if first else "a narrower interval"
        fields = {"folds": self.folds, "searches": searches, "check": 0, "longest": 1}
        return Change(fields=fields, title=f"{self.folds} folds, {each}", why=why)

    def _longer(self, low: int, high: int, why: str, after: str = "") -> Iterator[Change]:
        """Yield more epochs in steps of a tenth, of which the last has a title."""
        *steps, last = [*_between(low, high)] or [0]
        yield from (Change(fields={"epochs": epochs}, after=after) for epochs in steps)
        if last:
            title = f"{last} epochs ({last * -(-self.fewest // self.batch):,} steps)"
            yield Change(fields={"epochs": last}, title=title, why=why, after=after)

    def study(self, plan: Plan) -> Study:
        """Return the plan as a study, with what the user gave. Raises ConfigError where these contradict each other."""
        searched = plan.size if plan.whole_search else half(plan.size, self.sizes)
        study = Study(
            name=self.name,
            cells=grid([p.dataset for p in self.pictures], list(self.backbones), list(plan.strategies)),
            protocol=Protocol(
                max_epochs=plan.epochs,
                batch_size=self.batch,
                image_size=searched,
                precision="bf16" if self.precision == "bf16" else "fp32",
                views=min(plan.epochs, VIEWS),
                train_eval_images=256,
            ),
            trials=TRIALS * plan.searches,
            random_trials=(TRIALS - 1) * plan.searches,
            searches=plan.searches,
            grace_epochs=max(plan.epochs // 3, 1),
            reduction_factor=2,
            confirm_seeds=plan.searches if plan.folds > 1 else max(plan.seeds, plan.searches),
            confirm_size=plan.size if plan.size != searched else 0,
            budget_check=plan.check,
            longest=plan.longest,
            folds=plan.folds,
            deliver=True,
        )
        settled = _follow(self.settle(study), study)
        if plan.folds > 1 and settled.folds != plan.folds:
            raise ConfigError(f"folds={settled.folds} was given.")
        return settled


def _follow(study: Study, was: Study) -> Study:
    """Return the study with settings adapted to those that the user gave, unless they were given too."""
    p, before = study.protocol, was.protocol
    changed: dict[str, Any] = {}
    if study.confirm_size and study.confirm_size != was.confirm_size and p.image_size > study.confirm_size:
        return _follow(replace(study, protocol=replace(p, image_size=study.confirm_size)), was)
    if study.searches != was.searches and study.trials == was.trials:
        changed |= {"trials": TRIALS * study.searches, "random_trials": (TRIALS - 1) * study.searches}
        if study.confirm_seeds == was.confirm_seeds:
            changed["confirm_seeds"] = max(was.confirm_seeds, study.searches)
    if p.max_epochs != before.max_epochs:
        if p.views == before.views:
            changed["protocol"] = replace(p, views=min(p.max_epochs, VIEWS))
        if study.grace_epochs == was.grace_epochs:
            changed["grace_epochs"] = max(p.max_epochs // 3, math.ceil(p.warmup_epochs), 1)
    if p.image_size != before.image_size and study.confirm_size == was.confirm_size:
        changed["confirm_size"] = 0
    elif study.confirm_size == p.image_size:
        changed["confirm_size"] = 0
    return replace(study, **changed) if changed else study
