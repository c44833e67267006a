"""A driver of Ray Tune by a plan: Tune asks our searcher for trials and our scheduler for stops."""

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.console.signals import Interrupted
from study.errors import EnvironmentProblem
from study.records import Ask, EpochRecord, Outcome
from study.run import mark_out_of_memory
from study.search.conductor import Conductor
from study.search.on_ray.cluster import Connected, require_head
from study.search.on_ray.gpu_share import gpu_share
from study.search.on_ray.workers import WORKER, one_worker, out_of_memory, several_workers
from study.search.resources import Resources
from study.storage.folder import Folder
from study.storage.places import Places

MAX_FAILURES = 2


def run(
    conductor: Conductor,
    places: Callable[[Ask], Places],
    *,
    total: int,
    resources: Resources,
    cluster: Connected,
    storage: str,
    measurements: tuple[str, ...],
    interrupted: Interrupted,
) -> None:
    """Run the plan to its end; `total` bounds the number of trials left. Errors end their trial as failed and the others continue.

    Tune itself stops when a worker is killed for lack of memory, and drops a trial whose actor it cannot reuse in time. Trials that were
    running then are asked for again, in another round. Trials that share GPUs by measured memory take one round more: the first of every
    cell has a GPU to itself. Raises EnvironmentProblem when the head is lost, or nothing moves any more.
    """
    driver = _Driver(conductor, places, resources, storage, measurements, interrupted)
    cluster.on_unfit = driver.break_off
    stuck, deaths = 0, Counter[str]()
    measuring = resources.share_gpus and gpu_share(conductor.ledger.results().values()) is None
    while True:
        before = conductor.events
        if resources.share_gpus:
            driver.share_gpus(measuring)
        said = _round(driver, min(total, conductor.cells) if measuring else total, driver.resources.fit(cluster.nodes))
        driver.check()
        if interrupted.is_set():
            return
        if conductor.running or said:  # it broke off
            require_head()
            _end_those_without_memory(driver, said, deaths)
            stuck = 0 if conductor.events > before else stuck + 1
            if stuck > MAX_FAILURES:
                raise EnvironmentProblem(f"Ray Tune breaks off again and again: {_first_line(said)}. Run the same command again.")
            conductor.ask_again()
        elif measuring:  # the first of every cell has ended
            measuring = False
        else:
            return


def _end_those_without_memory(driver: "_Driver", said: str, deaths: Counter[str]) -> None:
    """Mark trials whose workers died for lack of memory, so that they go on with half the batch; end those that died so too often."""
    for ask in list(driver.conductor.running.values()):
        folder = Folder(driver.places(ask).folder)
        if out_of_memory(said) and _worker_of(folder) in said:
            mark_out_of_memory(folder)
            deaths[ask.trial_id] += 1
        if deaths[ask.trial_id] > MAX_FAILURES:
            driver.conductor.end(ask.trial_id, Outcome.FAILED, "out of memory, with half the batch at a time too")


def _round(driver: "_Driver", total: int, at_once: int) -> str:
    """Run one Tuner to its end; return its message where it broke off, else an empty text."""
    several = driver.resources.workers > 1
    if several:
        # the driver of a Train run holds nothing but must name something
        trainable = tune.with_resources(several_workers, {"CPU": 0, "node:__internal_head__": 0.001})
    else:
        trainable = tune.with_resources(one_worker, driver.resources.per_worker)
    for name in ("ray.tune", "ray.air"):  # they miss files of their own that nobody reads, and tell every error twice
        logging.getLogger(name).setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(driver),
            scheduler=_Scheduler(driver),
            num_samples=total,
            max_concurrent_trials=at_once,
            reuse_actors=not several,  # a stopped Ray Train run ends with its actor
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=driver.storage,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1 if several else MAX_FAILURES),
            callbacks=[_Callback(driver)],
        ),
    )
    driver.interrupted.raises = True
    try:
        tuner.fit()
    except KeyboardInterrupt:
        return ""  # workers have written their checkpoints; the cluster ends them as we leave
    except Exception as error:
        return str(error) or type(error).__name__
    finally:
        driver.interrupted.raises = False
    return ""


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


@dataclass(kw_only=False)
class _Driver:
    """The state shared by a plan's rounds, and in them by Tune's searcher and scheduler. Tune pickles both, without this state."""

    conductor: Conductor
    places: Callable[[Ask], Places]
    resources: Resources
    storage: str
    measurements: tuple[str, ...]
    interrupted: Interrupted
    errors: dict[str, str] = field(
        default_factory=dict
    )  # by trial id: why its worker failed, told by the scheduler before the searcher ends it
    main: bool = field(default_factory=lambda: threading.current_thread() is threading.main_thread())
    failure: BaseException | None = None  # of ours (a bug, a reader of stdout that went away), which Tune would take for the trial's
    problem: str = ""  # of the environment (a full disk): every other trial would meet it too, so the sweep ends

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def share_gpus(self, measuring: bool) -> None:
        """Give each trial the share of a GPU that the measured memory of those before allows; a whole one where none was measured."""
        share = gpu_share(self.conductor.ledger.results().values()) or 1.0
        self.resources = dataclasses.replace(self.resources, gpus_per_trial=share)
        print(f"GPUs: a trial takes {share:g} of one" + (", and the first of every cell is measured" if measuring else ""), flush=True)

    def check(self) -> None:
        """Raise what ended a round: an error of ours, or EnvironmentProblem for one of the machine's."""
        if self.failure is not None:
            raise self.failure
        if self.problem:
            raise EnvironmentProblem(self.problem)

    def break_off(self, problem: str) -> None:
        """Break off from another thread, since Tune may wait for long before it calls again."""
        self.problem = self.problem or problem
        if self.interrupted.raises and self.main:
            self.interrupted.break_off()

    @property
    def over(self) -> bool:
        return bool(self.problem) or self.failure is not None or self.interrupted.is_set()


class _Searcher(Searcher):
    """A searcher by which Ray Tune asks for trials. Tune has its own trial ids; ours are in the config."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__(metric="objective", mode="max")
        self._driver = driver
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a word
        d = self._driver
        if d.over:
            return Searcher.FINISHED
        try:
            ask = d.conductor.ask()
        except EnvironmentProblem as error:
            d.problem = str(error)
            return Searcher.FINISHED
        except (Exception, SystemExit) as error:
            d.failure = error
            return Searcher.FINISHED
        if ask is None:
            return Searcher.FINISHED
        self._ids[trial_id] = ask.trial_id
        return {
            "ask": ask.as_dict(),
            "places": dataclasses.asdict(d.places(ask)),
            "resources": dataclasses.asdict(d.resources),
            "storage": d.storage,
            "measurements": list(d.measurements),
            "stops": list(d.conductor.plan.stops(ask)),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        d, ours = self._driver, self._ids.get(trial_id)
        if ours is None or d.over:
            return
        result = result or {}
        if result.get("problem"):
            d.problem = str(result["problem"])
            return
        try:
            if error:
                d.conductor.end(ours, Outcome.FAILED, d.errors.pop(ours, "its worker died"))
            else:
                d.conductor.end(ours, Outcome(result.get("outcome", Outcome.FAILED)), str(result.get("reason", "ended without a word")))
        except EnvironmentProblem as problem:
            d.problem = str(problem)
        except (Exception, SystemExit) as failure:
            d.failure = failure

    def save(self, checkpoint_path: str) -> None:
        del checkpoint_path

    def restore(self, checkpoint_path: str) -> None:
        del checkpoint_path


class _Scheduler(FIFOScheduler):
    """A scheduler by which Ray Tune stops a trial early: one successive halving per cell, kept by the plan."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = trial.config["ask"]["trial_id"]
        if self._driver.over:
            return TrialScheduler.STOP
        if "record" not in result or result.get("outcome"):
            return TrialScheduler.CONTINUE  # the last report: how it ended
        try:
            stop = self._driver.conductor.epoch(trial_id, EpochRecord.from_json(result["record"]))
        except EnvironmentProblem as error:
            self._driver.problem, stop = str(error), True
        except (Exception, SystemExit) as error:
            self._driver.failure, stop = error, True
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        text = _error_of(trial)
        reason = "out of memory: its node ended its worker, again and again" if out_of_memory(text) else _last_line(text)
        self._driver.errors[trial.config["ask"]["trial_id"]] = reason


class _Callback(tune.Callback):
    """A callback for trials that a worker takes, and for those that ran out of memory: they continue with half the batch at a time, also
    where the node killed the worker."""

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._driver.conductor.begin(trial.config["ask"]["trial_id"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if out_of_memory(_error_of(trial)):
            mark_out_of_memory(Folder(trial.config["places"]["folder"]))


def _error_of(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text() if trial.error_file else "its worker died"
    except OSError:
        return "its worker died"


def _worker_of(trial: Folder) -> str:
    return (trial.read(WORKER) or b"?").decode()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no reason given"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its worker died"
