"""The search as Optuna stores one: every cell a study in an Optuna database, for optuna-dashboard and other readers."""

import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from study.console.text import redact
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Stage
from study.search.optuna_cells import STATES
from study.search.sample import distributions
from study.storage import outputs
from study.tracking.ledger import Ledger, Trial
from study.tracking.names import cell_names

OPTUNAS = {"studies", "trials", "version_info"}  # tables
OURS = "study"
"""The attribute of every study written here: one that has it is replaced, one of the same name without it is left alone."""


def export(ledger: Ledger, uri: str) -> dict[str, int]:
    """Write the search of `ledger` to the database at `uri` (as sqlite:///x.db), replacing an earlier copy.

    Returns the number of trials by name of the Optuna study. Raises ConfigError where there is no search or a name is taken,
    EnvironmentProblem where the database refuses.
    """
    study = ledger.study()
    if study is None:
        raise ConfigError(f"{ledger.folder.location} holds no study. Give RESULTS/STUDY.")
    outputs.check_database(uri, "Optuna's", OPTUNAS, "--optuna")  # MLflow's, with them among its own, opens no more
    asks = ledger.asks(Stage.SEARCH)
    if not asks:
        raise ConfigError(f"{ledger.folder.location} has no search trial yet. Run the sweep first.")
    trials = {cell.id: [*ledger.trials([a for a in asks if a.cell == cell.id])] for cell in study.cells}
    try:
        storage = optuna.storages.RDBStorage(uri)
        return {name: _write(storage, name, study, cell, trials[cell.id]) for name, cell in _named(study) if trials[cell.id]}
    except ConfigError:
        raise
    except Exception as error:  # SQLAlchemy's, a driver's, Optuna's own: whatever a database refuses by
        said = redact(" ".join(str(error).split()))[:300]
        way_out = "give a database that SQLAlchemy knows, as sqlite:///x.db, in a folder that exists"
        raise EnvironmentProblem(f"{redact(uri)} does not take the search ({type(error).__name__}: {said}); {way_out}.") from None


def _named(study: Study) -> list[tuple[str, Cell]]:
    return [(f"{study.name}: {name}", cell) for cell, name in cell_names(study.cells).items()]


def _write(storage: optuna.storages.RDBStorage, name: str, study: Study, cell: Cell, trials: Sequence[Trial]) -> int:
    known = {s.study_name: s for s in optuna.get_all_study_summaries(storage)}
    if name in known:
        if known[name].user_attrs.get(OURS) != study.name:
            raise ConfigError(f"the database has an Optuna study {name!r} that was not written here. Give another database.")
        optuna.delete_study(study_name=name, storage=storage)
    made = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    for key, value in {OURS: study.name, "cell": cell.id, "objective": study.scored_by.recorded, "about": study.about}.items():
        made.set_user_attr(key, value)
    with warnings.catch_warnings():  # of Optuna's that this is new
        warnings.simplefilter("ignore", ExperimentalWarning)
        made.set_metric_names([study.scored_by.recorded])
    ranges = _wide_enough(distributions(study.ranges(cell)), [_values(study, cell, t) for t in trials])
    for trial in sorted(trials, key=lambda t: t.ask.number):
        made.add_trial(_frozen(study, cell, trial, ranges))
    return len(trials)


def _values(study: Study, cell: Cell, trial: Trial) -> dict[str, Any]:
    return TrialConfig.from_dict(trial.ask.config).values(study.ranges(cell))


def _wide_enough(ranges: Mapping[str, BaseDistribution], values: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return ranges that hold all trials. A range that changed as the study grew leaves trials outside, which Optuna would refuse."""
    out: dict[str, BaseDistribution] = {}
    for name, known in ranges.items():
        tried = [v[name] for v in values]
        if isinstance(known, CategoricalDistribution):
            out[name] = CategoricalDistribution([*known.choices, *(v for v in dict.fromkeys(tried) if v not in known.choices)])
        elif isinstance(known, IntDistribution):
            out[name] = IntDistribution(min(known.low, *tried), max(known.high, *tried))
        else:
            assert isinstance(known, FloatDistribution)
            low, high = min(known.low, *tried), max(known.high, *tried)
            out[name] = FloatDistribution(low, high, log=known.log and low > 0)
    return out


def _frozen(study: Study, cell: Cell, trial: Trial, ranges: dict[str, BaseDistribution]) -> FrozenTrial:
    ask, epochs, result = trial
    # an undefined score is no number: it is left out, as everywhere
    scores = {e.epoch: e.objective for e in epochs if math.isfinite(e.objective)}
    state = STATES[result.outcome] if result else TrialState.RUNNING
    value = result.objective if result and state is TrialState.COMPLETE else None
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAIL
    if state is TrialState.PRUNED and scores:
        value = scores[max(scores)]
    attributes = {"trial": ask.trial_id, "number": ask.number, "origin": ask.origin.value, "seed": ask.config["seed"]}
    if study.searches > 1:
        attributes["search"] = study.place_of(ask.number)[0]
    if result:
        attributes |= {"outcome": result.outcome.value, "reason": result.reason, "seconds": result.seconds}
        attributes |= {"best_epoch": result.best_epoch}
    values = _values(study, cell, trial)
    made = optuna.trial.create_trial(
        state=state,
        value=value,
        params=values,
        distributions=ranges,
        intermediate_values=scores,
        user_attrs=attributes,
    )
    began = result.started_at if result else (epochs[0].ended_at - epochs[0].seconds if epochs else 0.0)
    made.datetime_start = datetime.fromtimestamp(began) if began else made.datetime_start
    if result and result.ended_at:
        made.datetime_complete = datetime.fromtimestamp(result.ended_at)
    return made
