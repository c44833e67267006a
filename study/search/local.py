"""The same search in this process, without Ray."""

import logging
import threading
from collections.abc import Callable

from study.config import TrialConfig
from study.errors import StudyError
from study.records import Ask, EpochRecord, Outcome
from study.search.conductor import Conductor
from study.training.run import Workspace, run_trial

log = logging.getLogger(__name__)


def run(conductor: Conductor, workspace: Callable[[Ask], Workspace], *, predict_test: bool, interrupted: threading.Event) -> None:
    """Runs the plan to its end, one trial at a time. An error ends its trial as failed, with the reason, and the next begins."""
    while not interrupted.is_set() and (ask := conductor.ask()) is not None:
        trial_id = ask.trial_id

        def report(record: EpochRecord, trial_id: str = trial_id) -> bool:
            stop = conductor.epoch(trial_id, record)
            if interrupted.is_set() and not stop:
                raise InterruptedError
            return stop

        try:
            ending = run_trial(TrialConfig.from_dict(ask.config), workspace(ask), report, predict_test=predict_test)
        except InterruptedError:
            return
        except StudyError as error:
            if error.exit_code == 4:  # disk, permission: every other trial would meet it too
                raise
            conductor.end(trial_id, Outcome.FAILED, str(error))
        except Exception as error:
            log.exception("trial %s failed", trial_id)
            conductor.end(trial_id, Outcome.FAILED, f"{type(error).__name__}: {error}")
        else:
            conductor.end(trial_id, ending.outcome, ending.reason)
