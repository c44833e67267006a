"""The stages of a study after its data were checked: search, confirm. Each can be resumed, and is skipped when done."""

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study.config import Study, TrialConfig
from study.datasets.spec import ImageTable
from study.progress import Watch
from study.records import Ask, Origin, Stage
from study.search.conductor import Conductor
from study.search.optuna_cells import SearchPlan
from study.search.plans import FixedPlan, Plan
from study.search.sample import seed_for
from study.signals import Interrupted
from study.tracking.ledger import Ledger
from study.training.run import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie; absolute, so that every worker means the same."""

    results: str
    data: str | None
    weights: str | None
    cache: str | None = None


class Executor:
    """Runs a plan: in this process, or on a Ray cluster. `run` is one of study.search.local.run, on_ray.tuner.run with its settings bound."""

    def __init__(
        self,
        run: Callable[..., None],
        ledger: Ledger,
        study: Study,
        places: Places,
        tables: dict[tuple[str, str], ImageTable],
        interrupted: Interrupted,
    ) -> None:
        self._run, self.ledger, self.study, self.places, self.tables, self.interrupted = run, ledger, study, places, tables, interrupted

    def __call__(self, title: str, plan: Plan, *, predict_test: bool) -> None:
        if plan.done >= plan.total:
            return
        with Watch(title, plan.total, plan.done, self.study.protocol.max_epochs) as watch:
            conductor = Conductor(plan, self.ledger, self._classes, watch)
            self._run(conductor, self._workspace, total=plan.total - plan.done, predict_test=predict_test, interrupted=self.interrupted)

    def _classes(self, config: TrialConfig) -> list[str]:
        return list(self.tables[config.cell.dataset, config.cell.splits.partition(":")[0]].classes)

    def _workspace(self, ask: Ask) -> Workspace:
        return Workspace(
            folder=self.ledger.trial_folder(ask.trial_id).location,
            data=self.places.data,
            weights=self.places.weights,
            cache=self.places.cache,
        )


def search(executor: Executor) -> None:
    executor("search", SearchPlan(executor.study, executor.ledger), predict_test=False)


def confirm_asks(study: Study, ledger: Ledger, chosen: dict[str, str]) -> list[Ask]:
    """The chosen configuration of every cell again, with seeds nothing was tuned on; the same seeds for every cell, so runs pair up."""
    known = {a.trial_id: a for a in ledger.asks()}
    sequence = max((a.sequence for a in known.values()), default=-1) + 1
    asks: list[Ask] = []
    for number in range(study.confirm_seeds * study.confirm_folds):
        k, fold = divmod(number, study.confirm_folds)
        for cell_id, trial_id in chosen.items():
            winner = TrialConfig.from_dict(known[trial_id].config)
            cell = winner.cell
            if study.confirm_folds > 1:
                cell = dataclasses.replace(cell, splits=f"{cell.splits.partition(':')[0]}:{fold}")
            config = dataclasses.replace(winner, cell=cell, seed=seed_for(study.seed, "confirm", k) % 2**31)
            ask = known.get(config.id) or Ask(
                trial_id=config.id,
                cell=cell_id,
                number=number,
                stage=Stage.CONFIRM,
                origin=Origin.CONFIRM,
                config=config.as_dict(),
                sequence=sequence + len(asks),
            )
            asks.append(ask)
    return asks


def confirm(executor: Executor, chosen: dict[str, str]) -> None:
    """Trains each winner afresh and, under the lock, opens the test set for exactly these runs."""
    asks = confirm_asks(executor.study, executor.ledger, chosen)
    if not asks:
        return
    executor.ledger.open_test([a.trial_id for a in asks])
    done = {a.trial_id for a in asks if executor.ledger.result(a.trial_id)}
    executor("confirm", FixedPlan(asks, done), predict_test=True)


def places(results: str, data: str | None, weights: str | None) -> Places:
    """Absolute places. Under `ray job submit` the working folder is a temporary copy, so a relative results folder means the home folder's."""
    base = Path.home() if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else str((base / Path(path).expanduser()).resolve())

    return Places(
        results=absolute(results) or "", data=absolute(data), weights=absolute(weights), cache=absolute(os.environ.get("STUDY_CACHE"))
    )
