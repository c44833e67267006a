"""The trials that a study asks for once its search is done: confirm runs, runs of the budget check, and those trained to explain."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from study.errors import EnvironmentProblem
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Stage
from study.search.confirmed import Chosen, Round, checked_number, factors_of, planned
from study.search.plans import ask_for
from study.search.seeds import confirm_config
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger

WRONG_LABELS = 0.2  # Zhang et al. 2017 go up to 1; a fifth is what careless labelling comes to

Run = tuple[str, int, Origin, TrialConfig]
"""A run to ask for: its cell, which one of the cell's it is, why it is asked for, and its configuration."""


def confirm_asks(
    study: Study, ledger: Ledger, chosen: Chosen, factors: Mapping[str, int] | None = None, known: Mapping[str, Ask] | None = None
) -> list[Ask]:
    """Return the chosen configurations of every cell again, with seeds on which nothing was tuned: the runs that verdicts rest on.

    The seeds are the same for every cell, so runs pair up. `chosen`: by cell, one trial, or the winner of each of R independent searches:
    confirm run k trains the winner of search k mod R, and is left out where that search found none. `factors`: by cell, times the study's
    epochs; by default those that were decided. `known`: the ledger's asks by id, where they were read already.
    """
    known = {a.trial_id: a for a in ledger.asks()} if known is None else known
    factors = factors_of(study, ledger.budgets(), chosen) if factors is None else factors
    if lost := [t for own in chosen.values() for t in own if t and t not in known]:
        raise EnvironmentProblem(
            f"{ledger.folder.shown('selection.json')} chooses trial {lost[0]}, which is not here. Restore its folder, or remove "
            "selection.json to choose again."
        )
    winners = {cell: [TrialConfig.from_dict(known[t].config) if t else None for t in own] for cell, own in chosen.items()}
    runs = ((cell, number, Origin.CONFIRM, config) for cell, number, config in planned(study, winners, factors))
    return asks_of(runs, Stage.CONFIRM, known, next_sequence(known.values()))


def check_asks(
    study: Study, ledger: Ledger, chosen: Chosen, rounds: Mapping[str, Round], known: Mapping[str, Ask] | None = None
) -> list[Ask]:
    """Return for every cell of `rounds` the best of its winners with more epochs and the seed of its search's first confirm run.

    Where the question is then confirmed at that budget, this is the confirm run.
    """
    known = {a.trial_id: a for a in ledger.asks()} if known is None else known
    best = (ledger.selection() or {"chosen": {}})["chosen"]
    runs: list[Run] = []
    for cell, part in rounds.items():
        number = checked_number(chosen[cell], best.get(cell, ""))
        winner = known[chosen[cell][study.search_of(number, len(chosen[cell]))]]
        config = confirm_config(study, TrialConfig.from_dict(winner.config), number, factor=part.factor)
        runs.append((cell, number, Origin.CONFIRM, config))
    return asks_of(runs, Stage.BUDGET, known, next_sequence(known.values()) + len(chosen) * study.confirm_seeds)


def explain_asks(study: Study, ledger: Ledger, chosen: Chosen) -> list[Ask]:
    """Return the trials besides the confirm runs, with the same seeds.

    Each confirm run is repeated with wrong labels. Each question's controls start from random weights, with the settings chosen for the
    strategy that they control (its published default where the study lacks it).
    """
    confirmed, known = confirm_asks(study, ledger, chosen), {a.trial_id: a for a in ledger.asks()}
    runs: list[Run] = []
    if "memorisation" in study.explain:
        runs += _with_wrong_labels(confirmed)
    if "controls" in study.explain:
        runs += _controls(study, {(a.cell, a.number): TrialConfig.from_dict(a.config) for a in confirmed})
    return asks_of(runs, Stage.EXPLAIN, known, next_sequence((*known.values(), *confirmed)))


def controls() -> dict[str, str]:
    """Return by control the strategy that does the same from the pretrained weights."""
    return {name: cls.control_of for name, cls in STRATEGIES.items() if cls.control_of}


def _with_wrong_labels(confirmed: Iterable[Ask]) -> Iterator[Run]:
    for ask in confirmed:
        config = TrialConfig.from_dict(ask.config)
        protocol = dataclasses.replace(config.protocol, wrong_labels=WRONG_LABELS)
        yield ask.cell, ask.number, Origin.MEMORISATION, dataclasses.replace(config, protocol=protocol)


def _controls(study: Study, confirmed: Mapping[tuple[str, int], TrialConfig]) -> Iterator[Run]:
    """Yield the controls of every question; `confirmed`: by cell and number, the configuration of a confirm run."""
    for control, of in controls().items():
        for cell in dict.fromkeys(dataclasses.replace(c, strategy=of) for c in study.cells):
            for number in range(study.confirm_seeds):
                tuned = confirmed.get((cell.id, number)) or confirm_config(
                    study, TrialConfig.default(cell, study.protocol_of(cell)), number
                )
                yield dataclasses.replace(cell, strategy=control).id, number, Origin.CONTROL, _from_random_weights(tuned, control)


def _from_random_weights(tuned: TrialConfig, control: str) -> TrialConfig:
    """Return the configuration with the strategy that does the same from random weights."""
    cell: Cell = dataclasses.replace(tuned.cell, strategy=control)
    return dataclasses.replace(tuned, cell=cell, strategy=STRATEGIES[control](**dataclasses.asdict(tuned.strategy)))


def next_sequence(asks: Iterable[Ask]) -> int:
    """Return the number in the order of asking that comes after these."""
    return max((a.sequence for a in asks), default=-1) + 1


def asks_of(runs: Iterable[Run], stage: Stage, known: Mapping[str, Ask], sequence: int) -> list[Ask]:
    """Return the runs as they were asked for before, whatever stage it was, else as they are asked for now, from `sequence` on."""
    return [
        known.get(config.id) or ask_for(config, cell, number, stage, origin, sequence + k)
        for k, (cell, number, origin, config) in enumerate(runs)
    ]
