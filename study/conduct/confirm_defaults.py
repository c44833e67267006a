"""Runs of each strategy's published default settings, with the confirm runs' seeds and test images, to show the gain of tuning."""

from study.conduct.after_search import Run, asks_of, next_sequence
from study.conduct.stages import Executor, expected_in, is_done
from study.measure import opens_test
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Stage
from study.search.confirmed import Chosen, factors_of
from study.search.plans import FixedPlan
from study.search.seeds import confirm_config
from study.tracking.ledger import DEFAULTS, Ledger

DEFAULT = "default"
"""Among `Study.explain`."""


def default_asks(study: Study, ledger: Ledger, chosen: Chosen) -> list[Ask]:
    """Return, for every cell that has a winner, as many runs of its published default as it has confirm runs.

    They have the same seeds, folds, parts of the training images and epochs. Where a search chose the default itself, the confirm run
    is that run.
    """
    known = {a.trial_id: a for a in ledger.asks()}
    factors = factors_of(study, ledger.budgets(), chosen)
    runs: list[Run] = []
    for number in range(study.confirm_seeds):
        for cell in [c for c in study.cells if c.id in chosen]:
            default = TrialConfig.default(cell, study.protocol_of(cell))
            runs.append((cell.id, number, Origin.DEFAULT, confirm_config(study, default, number, factor=factors.get(cell.id, 1))))
    return asks_of(runs, Stage.EXPLAIN, known, next_sequence(known.values()))


def confirm_defaults(executor: Executor, chosen: Chosen) -> None:
    """Train them where the study asks for it, and let them say what they see on the test images. No verdict rests on them and nothing is
    chosen by them, so that is no further look; their networks are not kept."""
    ledger, study = executor.ledger, executor.study
    asks = default_asks(study, ledger, chosen) if DEFAULT in study.explain else []
    if not asks:
        return
    measure = tuple(name for name in study.measure if name == "predictions")
    if opens_test(measure):
        ledger.open_test([a.trial_id for a in asks], DEFAULTS)
    done = {a.trial_id for a in asks if is_done(ledger, a.trial_id, measure, said=False)}
    executor("the published defaults", FixedPlan(asks, done, expected_in(ledger)), measurements=measure)
    for ask in asks:
        if ask.stage is Stage.EXPLAIN and is_done(ledger, ask.trial_id, measure, said=False):
            ledger.trial_folder(ask.trial_id).remove("best")
