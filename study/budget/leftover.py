"""A second fit of a study to its hours, once its search has ended and before the test set is opened: it gains or gives up parts.

The study was chosen by speeds measured before it began, in whole steps. Other programs come and go since, and its own search gives better
numbers. So the rest is priced anew, by the same prices (`study.budget.price`), times the search's own ratio of real to expected time.
What fits is bought: pixels of the confirm runs, strategies left out, trials, seeds. Where not even the plan fits, it gives up seeds,
then the budget check, then pixels of the confirm runs. Only the clock and validation decide; no test image is used.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from study.budget.bought import Choice, not_asked
from study.budget.ladder import CHECK, MOST_SEEDS, STEP_PX, STRATEGIES, TRIALS, half, reserved, sizes
from study.budget.price import Cost, Machine, Pictures, cost_of, run_seconds
from study.question.study_config import Study
from study.search.lengths import FACTORS, RUNS, affordable, price

MOST_TRIALS = 4 * TRIALS  # of a search
GIVEN_UP = ("confirm_seeds", "budget_check", "confirm_size")  # where not all fits
FEWEST_SEEDS = 3  # with fewer, what seeds differ by is hardly known
REPORT = 0.4  # of the seconds that starting and reporting take together
SPARE = 0.03  # of the hours
GROWTH = 0.015  # of the hours besides, before anything is added: what fits narrowly would be given up again a moment later
ALONE = 0.65  # of a trial's seconds beside others: the delivered network has all cores (0.46 was measured on two cores, docs/mine.md)
ALL_IMAGES = 4 / 3  # training and validation images, as a share of the training images
WITH_TESTED = 5 / 3  # with test images too, which outer folds have used as such

Step = Callable[[Study], Study | None]
"""A function that returns the next larger study of a kind, or the next smaller; None after the last."""


@dataclass(frozen=True, kw_only=True)
class Sofar:
    """The progress of a study, and the time it took."""

    now: float  # unix time
    seconds: float  # in which trials of its search ran, and its confirm runs where they are trained
    starting: float = 0.0  # seconds besides, until the trials of a stage began: taken again by every later stage
    won: Mapping[str, float] = field(default_factory=dict)  # as `price.cost_of` takes it
    took: Mapping[str, float] = field(default_factory=dict)  # seconds of one training of a cell's winner, by cell id
    trained: bool = False  # its confirm runs too: the budget was checked
    lengthened: bool = False  # at a longer budget than was planned
    exact: bool = False  # on validation the line to beat leads: delivery hardly trains


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """The further purchases for a study that was chosen for a number of hours."""

    choice: Choice
    pictures: tuple[Pictures, ...]
    machine: Machine
    given: frozenset[str] = frozenset()  # fields that the user set: they stay

    def fitted(self, study: Study, sofar: Sofar, ends_at: float) -> Study:
        """Return the study with everything that still fits before `ends_at` (unix time), the most useful first.

        Where the plan itself does not fit, it is returned without its least useful parts; where neither applies, unchanged.
        """
        before = self._cost(study, sofar)
        done = _confirmed(before, sofar) if sofar.trained else 0.0
        slower = sofar.seconds / (before.search + done) if before.search + done else 1.0
        winners = self._winners_slower(study, sofar)
        runs_slower = winners if winners and sofar.trained else max(slower, winners)
        until = ends_at - SPARE * 3600 * self.choice.hours - REPORT * self.machine.start

        trials, open_again = study.trials, replace(sofar, won={})  # a search that goes on may choose anything

        def fits(wider: Study, spare: float = 0.0) -> bool:
            known = sofar if wider.trials == trials else open_again
            cost = self._cost(wider, known)
            stages = 1 + (wider.budget_check > 0 and not sofar.trained)
            trained = slower * (cost.search - before.search) + runs_slower * (_confirmed(cost, known) - done + cost.tested)
            left = stages * sofar.starting + trained + self.delivery(wider, cost, runs_slower, known)
            return sofar.now + left <= until - spare

        for narrow in self._cuts(sofar):
            while not fits(study) and (narrower := narrow(study)) is not None:
                study = narrower
        for widen in self._growths(study, sofar):
            while (wider := widen(study)) is not None and fits(wider, GROWTH * 3600 * self.choice.hours):
                study = wider
        return study

    def _winners_slower(self, study: Study, sofar: Sofar) -> float:
        """Return the ratio of what the winners' trainings took to their price: trials of a search differ in depth, and the price of one
        depth may be further off than that of another. 0 where it is not known."""
        known = [c for c in study.cells if c.id in sofar.took and not sofar.lengthened]
        protocol_of = study.confirmed_protocol if sofar.trained else study.protocol_of
        priced = sum(run_seconds(study, c, protocol_of(c), self.pictures, self.machine, sofar.won) for c in known)
        return sum(sofar.took[c.id] for c in known) / priced if known else 0.0

    def _cost(self, study: Study, sofar: Sofar) -> Cost:
        return cost_of(study, self.pictures, self.machine, sofar.won)

    def delivery(self, study: Study, cost: Cost, slower: float, sofar: Sofar) -> float:
        """Return the seconds of the delivery's trainings, one run after the other; whole lengths rarely use all of their share of the
        hours. Where the line to beat leads, that is solved once more and nothing is trained.

        `cost`: of the study.
        """
        if not study.deliver:
            return 0.0
        if sofar.exact and study.confirm_size in (0, study.protocol.image_size):  # larger images may still change who leads
            return cost.line
        priced = (run_seconds(study, c, study.confirmed_protocol(c), self.pictures, self.machine, sofar.won) for c in study.cells)
        run = slower * max(priced) * (ALONE if self.machine.at_once > 1 else 1.0)
        to_train = {factor: RUNS * (factor > 1) for factor in FACTORS}
        images = WITH_TESTED if study.folds > 1 else ALL_IMAGES
        lengths = affordable(FACTORS, to_train, run, images, 3600 * self.choice.hours * reserved(study))
        tried = FACTORS[:1] if sofar.exact or not lengths else lengths
        return cost.line + price(tried, to_train, run, images)

    def _growths(self, study: Study, sofar: Sofar) -> Iterator[Step]:
        """Yield the ways in which a study may grow, the most useful first.

        What was searched and confirmed stays as it is, except for more seeds, and so does a study that gave something up. A study by
        outer folds has no budget check, and one seed for each search: it grows by a second pass, else by trials.
        """
        gave_up = any(getattr(study, name) < getattr(self.choice.study, name) for name in GIVEN_UP)
        if study.folds > 1:
            if gave_up:
                return
            yield from (self._strategies,) if "strategies" not in self.given else ()
            yield from (_second_pass, _trials) if not {"searches", "trials", "random_trials", "confirm_seeds"} & self.given else ()
            return
        if not sofar.trained and not gave_up:
            if "confirm_size" not in self.given:
                yield self._more_pixels
            if "strategies" not in self.given:
                yield self._strategies
            if not {"budget_check", "longest"} & self.given:
                yield _budget_check
            if not {"trials", "random_trials"} & self.given:
                yield _trials
        if "confirm_seeds" not in self.given:
            yield lambda study: _seeds(study) if sofar.trained or not study.budget_check else None  # after a check their price is known

    def _cuts(self, sofar: Sofar) -> Iterator[Step]:
        """Yield the parts that a study may give up, the least useful first. None of them has been trained yet."""
        if not sofar.trained:
            if "confirm_seeds" not in self.given:
                yield _fewer_seeds
            if not {"budget_check", "longest"} & self.given:
                yield _no_check
            if "confirm_size" not in self.given:
                yield _fewer_pixels

    def _more_pixels(self, study: Study) -> Study | None:
        """Return it with the next larger size of its confirm runs: up to all pixels of the images, and as the ladder pairs sizes, no more
        than twice the size that was searched at."""
        size = study.confirm_size or study.protocol.image_size
        worth = sizes(self.machine.own)
        more = next((s for s in worth if s > size), 0)
        enough = size >= max(p.side for p in self.pictures)
        return None if enough or not more or half(more, worth) > study.protocol.image_size else replace(study, confirm_size=more)

    def _strategies(self, study: Study) -> Study | None:
        """Return the study with the cheapest strategy that was left out."""
        have = {c.strategy for c in study.cells}
        name = next((s for s in STRATEGIES if s not in have), None)
        if name is None:
            return None
        cells = dict.fromkeys((*study.cells, *(replace(c, strategy=name) for c in study.cells)))
        about = study.about.replace(not_asked(name, self.choice.left_out.get(name, 0.0)), "").strip()
        return replace(study, cells=tuple(cells), about=about)


def _confirmed(cost: Cost, sofar: Sofar) -> float:
    """Return the price of all that trains between the search and the opening of the test set."""
    return cost.confirm + cost.check + cost.longer * (sofar.lengthened or not sofar.trained)


def _budget_check(study: Study) -> Study | None:
    return None if study.budget_check or not study.confirm_seeds else replace(study, budget_check=CHECK)


def _second_pass(study: Study) -> Study | None:
    """Return the study with another search of each outer fold."""
    if study.searches > study.folds:
        return None
    twice = {name: 2 * getattr(study, name) for name in ("searches", "trials", "random_trials", "confirm_seeds")}
    return replace(study, **twice)


def _trials(study: Study) -> Study | None:
    """Return the study with one trial more for each search, which learns from those before it."""
    if study.searches > study.folds > 1:  # their numbers say which pass they are of
        return None
    return None if study.trials >= MOST_TRIALS * study.searches else replace(study, trials=study.trials + study.searches)


def _seeds(study: Study) -> Study | None:
    """Return the study with one more confirm run for each search's winner."""
    more = study.confirm_seeds + study.searches
    return None if not study.confirm_seeds or more > max(MOST_SEEDS, 2 * study.searches) else replace(study, confirm_seeds=more)


def _fewer_seeds(study: Study) -> Study | None:
    """Return the study with one confirm run fewer for each search's winner."""
    fewer = study.confirm_seeds - study.searches
    return None if fewer < max(FEWEST_SEEDS, study.searches) else replace(study, confirm_seeds=fewer)


def _no_check(study: Study) -> Study | None:
    return replace(study, budget_check=0, longest=1) if study.budget_check else None


def _fewer_pixels(study: Study) -> Study | None:
    """Return the study with the next smaller size of the confirm runs, down to the size that was searched at."""
    if not study.confirm_size:
        return None
    fewer = study.confirm_size - STEP_PX
    return replace(study, confirm_size=fewer if fewer > study.protocol.image_size else 0)
