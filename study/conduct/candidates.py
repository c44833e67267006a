"""What may be delivered of a data set: the verdict's strategy with its best settings, and what is solved exactly; which runs it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from analysis.findings.pick import Pick
from study.errors import EnvironmentProblem
from study.question.config import Cell, Study, TrialConfig
from study.records import Ask, Origin, Outcome, Stage
from study.search.lengths import FACTORS, RUNS
from study.search.plans import ask_for
from study.search.seeds import seed_for
from study.strategies import EVERY, Features
from study.tracking.ledger import Ledger

TUNED_ON = (Stage.SEARCH, Stage.EXPLAIN)
"""Runs of these tell nothing here: their seeds were chosen by, or their labels are wrong."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A strategy that may be delivered. `base`: its settings under the protocol and on the split of the runs that were compared."""

    cell: str  # whose budget it spends
    base: TrialConfig
    reason: str  # why it is one
    seed: int  # the study's
    strength: float = 0.0  # of what is solved: the one that validation chose
    folds: int = 1  # outer folds of the study: with several, all its images may be trained on
    seeds: tuple[tuple[int, int], ...] = ()  # of its compared runs, the first of them, each with its part of the images

    @property
    def name(self) -> str:
        return self.base.cell.strategy

    @property
    def exact(self) -> bool:
        return EVERY[self.name].exact

    @property
    def lengths(self) -> tuple[int, ...]:
        """Epochs that may be tried."""
        most = self.base.protocol.max_epochs
        return (most,) if self.exact else tuple(factor * most for factor in FACTORS)

    @property
    def runs(self) -> int:
        """How many a length needs."""
        return 1 if self.exact else RUNS

    def trained(self, epochs: int, number: int) -> TrialConfig:
        """Run `number` of a length: the same seeds at every length, those of the compared runs first, so that lengths pair up. Nothing was
        tuned on any of them."""
        fresh = (seed_for(self.seed, "deliver", number) % 2**31, number + 1 if self.base.cell.train_fraction < 1 else 0)  # part 0: searched
        seed, subset = self.seeds[number] if number < len(self.seeds) else fresh
        return replace(self._for(epochs), seed=seed, subset=subset)

    def refitted(self, epochs: int) -> TrialConfig:
        """The network that is handed over: of its last epoch, since no image is left to choose one by. Where every image was a test image
        of some fold, it is trained on all of them."""
        config = replace(self._for(epochs), seed=seed_for(self.seed, "deliver", "refit") % 2**31, subset=0)
        config = replace(config, train_on="all" if self.folds > 1 else "train+val")
        if isinstance(config.strategy, Features):
            config = replace(config, strategy=replace(config.strategy, strength=self.strength))
        return replace(config, protocol=replace(config.protocol, keep="last"))

    def _for(self, epochs: int) -> TrialConfig:
        p = self.base.protocol
        views = epochs if p.views == p.max_epochs else p.views  # one for each epoch stays one for each epoch
        steps = -(-p.min_steps * epochs // p.max_epochs)  # else more epochs of fewer passes were no longer training
        return replace(self.base, protocol=replace(p, max_epochs=epochs, views=views, min_steps=steps))

    def known(self, ledger: Ledger, epochs: int, *, fresh: bool = True) -> list[Ask]:
        """Completed runs of this length, in the order of asking; `fresh=False`: without those that delivery itself asked for."""
        wanted = _bare(self._for(epochs))
        asks = [a for a in ledger.asks() if a.stage not in TUNED_ON and (fresh or a.stage is not Stage.DELIVER)]
        own = [a for a in asks if a.config["cell"]["strategy"] == self.name and _bare(TrialConfig.from_dict(a.config)) == wanted]
        return [a for a in own if (r := ledger.result(a.trial_id)) is not None and r.outcome is Outcome.COMPLETED]

    def to_train(self, ledger: Ledger, epochs: int) -> list[Ask]:
        """The runs that a length needs beside what the study has, trained already or not."""
        have = {a.trial_id for a in self.known(ledger, epochs, fresh=False)}
        configs = [self.trained(epochs, k) for k in range(self.runs)]
        missing = [(k, c) for k, c in enumerate(configs) if c.id not in have][: max(self.runs - len(have), 0)]
        first = RUNS * self.lengths.index(epochs)
        return [self._ask(ledger, config, first + k, Origin.LENGTH) for k, config in missing]

    def refit(self, ledger: Ledger, epochs: int) -> Ask:
        return self._ask(ledger, self.refitted(epochs), RUNS * len(FACTORS), Origin.REFIT)

    def _ask(self, ledger: Ledger, config: TrialConfig, number: int, origin: Origin) -> Ask:
        sequence = max((a.sequence for a in ledger.asks()), default=-1) + 1 + number
        return ledger.ask(config.id) or ask_for(config, self.cell, number, Stage.DELIVER, origin, sequence)

    def epoch_seconds(self, ledger: Ledger) -> float:
        """Of one epoch, as its cell's trials took them."""
        results, own = ledger.results(), [a for a in ledger.asks() if a.cell == self.cell and a.stage is not Stage.DELIVER]
        tuned = [a for a in own if a.config["strategy"] == self.base.as_dict()["strategy"]]
        each = [[r.seconds / r.epochs for a in asks if (r := results.get(a.trial_id)) and r.epochs] for asks in (tuned, own)]
        return next((median(seconds) for seconds in each if seconds), 0.0)


def candidates(study: Study, ledger: Ledger, pick: Pick, *, alone: bool = False) -> list[Candidate]:
    """The pick first. `alone`: somebody named it, so nothing competes."""
    own = _of_pick(study, ledger, pick)
    return [own, *([] if alone else _exact(study, ledger, own))]


def _of_pick(study: Study, ledger: Ledger, pick: Pick) -> Candidate:
    """With the settings that did best on validation over all searches of its cell."""
    run, best = ledger.ask(pick.trial), ledger.winners().get(pick.cell.id)
    if run is None:
        raise EnvironmentProblem(f"{ledger.trial_folder(pick.trial).location} is gone; restore it from a backup, then deliver.")
    base = TrialConfig.from_dict(run.config)
    if best is not None and not EVERY[base.cell.strategy].exact:
        tuned = TrialConfig.from_dict(best.config)
        base = replace(base, strategy=tuned.strategy, recipe=tuned.recipe)
    own = Candidate(
        cell=run.cell,
        base=replace(base, seed=0, subset=0),
        reason=pick.reason or "you named it",
        seed=study.seed,
        strength=_strength(ledger, pick.trial),
        folds=study.folds,
    )
    compared = [a for a in own.known(ledger, base.protocol.max_epochs) if a.stage is Stage.CONFIRM]
    seeds = [(int(a.config["seed"]), int(a.config.get("subset", 0))) for a in sorted(compared, key=lambda a: a.number)]
    return replace(own, seeds=tuple(seeds[:RUNS]))


def _strength(ledger: Ledger, trial_id: str) -> float:
    """What validation chose for a trial that was solved; 0 for one that was trained."""
    result = ledger.result(trial_id)
    return float(result.facts.get("strength", 0.0)) if result else 0.0


def _exact(study: Study, ledger: Ledger, beside: Candidate) -> Iterator[Candidate]:
    """What was solved exactly for the same data set, network and share of the images, at its largest image size."""
    found: dict[int, tuple[str, TrialConfig, str]] = {}
    cell = beside.base.cell
    for ask in ledger.asks(Stage.CONFIRM):
        strategy, result = EVERY[ask.config["cell"]["strategy"]], ledger.result(ask.trial_id)
        if (
            not strategy.exact
            or strategy.yardstick
            or strategy.name == beside.name
            or result is None
            or result.outcome is not Outcome.COMPLETED
        ):
            continue
        config = TrialConfig.from_dict(ask.config)
        if _any_size(replace(config.cell, strategy=cell.strategy)) == _any_size(cell):
            found.setdefault(config.protocol.image_size, (ask.cell, config, ask.trial_id))
    if found:
        name, config, trial = found[max(found)]
        base = replace(config, seed=0, subset=0)
        yield Candidate(
            cell=name,
            base=base,
            reason="solved exactly on frozen features",
            seed=study.seed,
            strength=_strength(ledger, trial),
            folds=study.folds,
        )


def _any_size(cell: Cell) -> Cell:
    """What is solved once stands beside every budget and size of images."""
    return replace(cell, budget=1, image_size=0)


def _bare(config: TrialConfig) -> TrialConfig:
    """Without what may differ between runs of one length."""
    return replace(config, seed=0, subset=0, protocol=replace(config.protocol, views=0))


def images_of(counts: Sequence[int], others: int) -> tuple[int, float]:
    """(training images and the `others` that are trained on in the end, together, as a share of the training images)."""
    train = sum(counts)
    return train + others, (train + others) / train
