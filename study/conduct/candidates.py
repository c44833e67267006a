"""Candidates for delivery on a data set (the verdict's strategy with its best settings, and exact solutions) and the runs that each
takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from analysis.findings.pick import Pick
from study.errors import EnvironmentProblem
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage
from study.search.lengths import FACTORS, RUNS
from study.search.plans import ask_for
from study.search.seeds import seed_for
from study.strategies import EVERY, Features
from study.tracking.ledger import Ledger

TUNED_ON = (Stage.SEARCH, Stage.EXPLAIN)
"""Stages whose runs tell nothing about a length: their seeds chose the settings, or their labels are wrong."""


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
        """Return the numbers of epochs that may be tried."""
        most = self.base.protocol.max_epochs
        return (most,) if self.exact else tuple(factor * most for factor in FACTORS)

    @property
    def runs(self) -> int:
        """Return the number of runs that a length needs."""
        return 1 if self.exact else RUNS

    def trained(self, epochs: int, number: int) -> TrialConfig:
        """Return the settings of run `number` of a length.

        The seeds are the same at every length, those of the compared runs first, so lengths pair up. No setting was tuned on any of them.
        """
        part = number + 1 if self.base.cell.train_fraction < 1 else 0  # part 0: searched
        fresh = (seed_for(self.seed, "deliver", number) % 2**31, part)
        seed, subset = self.seeds[number] if number < len(self.seeds) else fresh
        return replace(self._for(epochs), seed=seed, subset=subset)

    def refitted(self, epochs: int) -> TrialConfig:
        """Return the settings of the network that is delivered.

        Its last epoch is kept, since no image is left to choose one by. With outer folds every image was a test image of some fold, so it
        is trained on all of them.
        """
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
        """Return completed runs of this length, in the order of asking; `fresh=False`: without those that delivery itself asked for."""
        wanted = _bare(self._for(epochs))
        asks = [a for a in ledger.asks() if a.stage not in TUNED_ON and (fresh or a.stage is not Stage.DELIVER)]
        own = [a for a in asks if a.config["cell"]["strategy"] == self.name and _bare(TrialConfig.from_dict(a.config)) == wanted]
        return [a for a in own if (r := ledger.result(a.trial_id)) is not None and r.outcome is Outcome.COMPLETED]

    def to_train(self, ledger: Ledger, epochs: int) -> list[Ask]:
        """Return the runs that a length needs beside those of the study, trained already or not."""
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
        """Return the median seconds of one epoch in the trials of its cell."""
        results, own = ledger.results(), [a for a in ledger.asks() if a.cell == self.cell and a.stage is not Stage.DELIVER]
        tuned = [a for a in own if a.config["strategy"] == self.base.as_dict()["strategy"]]
        each = [[r.seconds / r.epochs for a in asks if (r := results.get(a.trial_id)) and r.epochs] for asks in (tuned, own)]
        return next((median(seconds) for seconds in each if seconds), 0.0)


def candidates(study: Study, ledger: Ledger, pick: Pick, *, alone: bool = False) -> list[Candidate]:
    """Return the candidates, the pick first. `alone`: the user named the pick, so no other candidate competes."""
    own = _of_pick(study, ledger, pick)
    return [own, *([] if alone else _exact(study, ledger, own))]


def _of_pick(study: Study, ledger: Ledger, pick: Pick) -> Candidate:
    """Return the pick with the settings that did best on validation over all searches of its cell. Raises EnvironmentProblem."""
    run, best = ledger.ask(pick.trial), ledger.winners().get(pick.cell.id)
    if run is None:
        raise EnvironmentProblem(f"{ledger.trial_folder(pick.trial).location} is gone. Restore it from a backup, then deliver.")
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
    """Return the regularisation strength that validation chose for an exact solution; 0 for a trained network."""
    result = ledger.result(trial_id)
    return float(result.facts.get("strength", 0.0)) if result else 0.0


def _exact(study: Study, ledger: Ledger, beside: Candidate) -> Iterator[Candidate]:
    """Yield the exact solution for the same data set, network and share of the images, at its largest image size."""
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
    """Return the cell without budget and image size: an exact solution competes with every one of them."""
    return replace(cell, budget=1, image_size=0)


def _bare(config: TrialConfig) -> TrialConfig:
    """Return the settings without those in which runs of one length may differ."""
    return replace(config, seed=0, subset=0, protocol=replace(config.protocol, views=0))


def images_of(counts: Sequence[int], others: int) -> tuple[int, float]:
    """Return (training images and the `others` of the final training together, the same as a multiple of the training images)."""
    train = sum(counts)
    return train + others, (train + others) / train
