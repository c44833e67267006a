"""The search in this process, without Ray."""

import logging
from collections.abc import Callable

from study.console.signals import Interrupted
from study.errors import StudyError
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Outcome
from study.run import run_trial
from study.search.conductor import Conductor
from study.search.plans import shows_curve
from study.storage.places import Places


class _NotTheTrials(BaseException):
    """An error of the receivers of an epoch (the ledger, the plan, a closed terminal), carried past the trial's own error handling."""


log = logging.getLogger(__name__)


def run(
    conductor: Conductor, places: Callable[[Ask], Places], *, total: int, measurements: tuple[str, ...], interrupted: Interrupted
) -> None:
    """Run the plan to its end, one trial at a time.

    The plan knows its own end, so `total` is not used. An error ends its trial as failed, with the reason, and the next begins.
    """
    del total
    while not interrupted.is_set() and (ask := conductor.ask()) is not None:
        trial_id = ask.trial_id
        conductor.begin(trial_id)

        def report(record: EpochRecord, trial_id: str = trial_id) -> bool:
            try:
                stop = conductor.epoch(trial_id, record)
            except Exception as error:
                raise _NotTheTrials from error
            if interrupted.is_set() and not stop:
                raise InterruptedError
            return stop

        try:
            config, curve = TrialConfig.from_dict(ask.config), shows_curve(ask)
            stops = conductor.plan.stops(ask)
            with interrupted.during("this epoch"):
                ending = run_trial(config, places(ask), report, measurements=measurements, curve=curve, stops=stops)
        except InterruptedError:
            return
        except _NotTheTrials as carried:
            assert carried.__cause__ is not None
            raise carried.__cause__ from None
        except StudyError as error:
            if error.exit_code == 4:  # disk, permission: every other trial would meet it too
                raise
            conductor.end(trial_id, Outcome.FAILED, str(error))
        except Exception as error:
            log.exception("trial %s failed", trial_id)
            conductor.end(trial_id, Outcome.FAILED, f"{type(error).__name__}: {error}")
        else:
            conductor.end(trial_id, ending.outcome, ending.reason)
