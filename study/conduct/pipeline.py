"""A whole study, from question to page: check, search, confirm with fresh seeds, check the budget, open the test set once, report."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from study import environment
from study.conduct import settle_budget, stages
from study.conduct.checks import check_data, check_room, check_study, own_sizes, settle_precision
from study.conduct.confirm_defaults import confirm_defaults
from study.conduct.delivery import deliver
from study.conduct.outer_folds import few_tested, tested_images
from study.conduct.plan_tables import print_plan
from study.conduct.report_pictures import Gatherer
from study.conduct.runners import open_runner
from study.conduct.same_images import Tables, check_same
from study.conduct.workplace import Workplace
from study.console.progress import busy, warn
from study.console.signals import Interrupted
from study.console.text import span
from study.errors import ConfigError
from study.failpoints import failpoint
from study.question.study_config import Study
from study.search import local
from study.storage import lock
from study.storage.folder import Folder
from study.storage.options import Options
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from analysis.report import ReportSummary
    from analysis.words.answer import Answer
    from study.budget.leftover import Leftover
    from study.tracking.follower import Follower
    from study.tracking.tracker import SyncReport


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The state of a study at its end: complete (`answers`, one a data set, and `verdicts`, one a question), or interrupted by a
    signal."""

    study: Study
    ledger: Ledger
    verdicts: list[str]
    answers: "Sequence[Answer]" = ()
    use: list[str] = field(default_factory=list)  # the network to use of each data set, in lines for a terminal
    tracked: "Sequence[tuple[Follower, SyncReport]]" = ()
    values: dict[str, Any] = field(default_factory=dict)  # the verdict for other programs (docs/verdict.schema.json)

    @property
    def unsent(self) -> list[str]:
        """Return a line for each tracker that lacks events or has a problem, with the command that sends them."""
        return [f"tracking: {report.lack}. Run {follower.how_to_send()}" for follower, report in self.tracked if report.lack]


def conduct(study: Study, options: Options, interrupted: Interrupted, leftover: "Leftover | None" = None) -> Ended:
    """Run the rest of a study; `leftover`: what else may be bought until `options.ends_at`. Raises StudyError for errors that a user can
    mend."""
    work = Workplace.at(study, options)
    ledger, places = work.ledger, work.places
    with ExitStack() as stack:
        # ---- check: everything that can be wrong is found before a worker starts ---------------------
        with busy("checking networks and images"):
            parameters, tables = check_study(work, options)
            study, probe = settle_precision(study, ledger, places, None if options.local else max(int(options.cpus_per_worker), 1))
        check_room(study, ledger, parameters)
        stack.enter_context(lock.held(ledger.folder))
        failpoint("after_lock")
        with busy("comparing the images with those of before"):
            check_same(tables, ledger)  # a start that is refused leaves the study as it was: nothing of it has grown
        first = {**environment.environment(options.command, options.arguments), **probe, "started_at": time.time()}
        study = _begin(study, ledger, first)
        with busy("looking through all images"):
            ledger.add_facts(data_warnings=check_data(tables, ledger, study.folds, study.protocol.fit), own_sizes=own_sizes(study))
        failpoint("after_validate")
        # ---- run, each tracker in a process of its own ------------------------------------------------
        followers = follow(ledger, options.mlflow, options.track)
        try:
            ending = _run(replace(work, study=study), options, tables, interrupted, leftover)
        finally:
            with busy("sending the rest to MLflow"):
                tracked = [(f, f.close()) for f in followers]
    study = ledger.study() or study
    if ending is None:
        return Ended(study=study, ledger=ledger, verdicts=[], tracked=tracked)
    return Ended(
        study=study,
        ledger=ledger,
        verdicts=ending.verdicts,
        answers=ending.answers,
        use=ending.use,
        tracked=tracked,
        values=ending.values,
    )


def show_plan(study: Study, options: Options) -> None:
    """Print the trials that would run, their cost, and how many are done already; write nothing. Raises ConfigError where the run
    would."""
    work = Workplace.at(study, options)
    ledger, places = work.ledger, work.places
    if (begun := ledger.study()) is not None:
        study, changes = ledger.grown(settle_precision(study, ledger, places)[0], begun)
        if changes:
            print(f"the study would grow: {'; '.join(c.text for c in changes)}")
    _, tables = check_study(replace(work, study=study), options)
    study, _ = settle_precision(study, ledger, places)
    check_same(tables, ledger)
    print_plan(study, ledger, tables, places)
    for (name, _), table in tables.items():
        for line in few_tested(study.folds, table):
            print(f"data: {name}: {line}")
    from analysis.words.design_power import sights

    tests = {key: tested_images(study, table) for key, table in tables.items()}
    for line in sights(study, tests, Folder(places.folder)):
        print(f"design: {line}")


def _begin(study: Study, ledger: Ledger, first_facts: dict[str, object], *, planned: bool = False) -> Study:
    before = len(ledger.amendments())
    study = ledger.begin(study, first_facts, planned=planned)
    for amendment in ledger.amendments()[before:]:
        seen = " (its test set is open already)" if amendment["test_open"] else ""
        what = "its hours hold another plan" if planned else "the study grows"
        print(f"{what}: {'; '.join(amendment['changes'])}{seen}")
    return study


def _run(
    work: Workplace, options: Options, tables: Tables, interrupted: Interrupted, leftover: "Leftover | None" = None
) -> "ReportSummary | None":
    """Run the stages, each skipped when done; return the report's summary, or None where a signal came first."""
    ledger, solve = work.ledger, stages.Executor(local.run, work, tables, interrupted)
    if not options.named_cluster:  # in this process, before anything has to start: the first answer comes within a minute
        stages.set_line(solve)
        if interrupted.is_set():
            return None
    with open_runner(work, options, tables) as run:
        execute = stages.Executor(run, work, tables, interrupted)
        if options.named_cluster:  # its nodes were checked by now, and may have the GPUs that this machine lacks
            solve = execute
            stages.set_line(solve)
        began, trained, settled = time.time(), False, False
        while True:  # until nothing is left to be bought
            stages.search(execute)
            chosen = stages.choose(ledger, execute.study.searches) if not interrupted.is_set() else {}
            if chosen and leftover and (fitted := _fitted(execute, leftover, chosen, options.ends_at, began, trained)):
                leftover = None if trained else leftover  # a second look would take the seeds just bought for trained
                work = replace(work, study=_begin(fitted, ledger, {}, planned=True))
                execute = stages.Executor(run, work, tables, interrupted)
                solve = execute if options.named_cluster else stages.Executor(local.run, work, tables, interrupted)
                stages.set_line(solve, again=True)  # at other pixels, the small line is another one
                continue
            settled = trained or (bool(chosen) and settle_budget.settle(execute, chosen))
            if trained or not settled or not execute.study.budget_check:
                break
            trained = True
        if settled and not interrupted.is_set():
            stages.confirm(execute, chosen)
            stages.measure_line(solve)
        if chosen and not interrupted.is_set():
            stages.explain(execute, chosen)
        if settled and not interrupted.is_set():
            confirm_defaults(execute, chosen)
        if interrupted.is_set():
            return None
        if not ledger.finished():  # the time of the last word stays: trackers keep a row a time, and would have its scores twice
            ledger.add_facts(finished_at=time.time())
        summary = report(ledger, Gatherer(execute.study, ledger, tables) if options.images else None)
        return _hand_over(execute, solve, options.left(), summary) if execute.study.deliver else summary


def _fitted(
    executor: stages.Executor, leftover: "Leftover", chosen: stages.Chosen, ends_at: float, began: float, trained: bool
) -> Study | None:
    """Return the study changed to fit the hours that are left; None where it stays as it is, or the test set was opened before."""
    from study.conduct.so_far import how_far

    study, ledger = executor.study, executor.ledger
    if ledger.test_openings():
        return None
    sofar = how_far(ledger, chosen, began, trained=trained)
    fitted = leftover.fitted(study, sofar, ends_at)
    if fitted == study:
        return None
    print(f"about {span(max(ends_at - sofar.now, 0.0))} of the hours are left", flush=True)
    return fitted


def _hand_over(execute: stages.Executor, alone: stages.Executor, hours: float, summary: "ReportSummary") -> "ReportSummary | None":
    """Run the last stage: train the delivered network with all cores of this machine, then write the page again with it.

    Returns None where a signal came first. Too few hours for a delivery leave the study as it is, with a warning.
    """
    before = execute.ledger.delivered()
    try:
        stay = deliver(execute, hours=hours, alone=alone)
    except ConfigError as error:
        warn(str(error))
        return summary
    for network in stay:
        if network.grown:
            warn(network.text)
    if execute.interrupted.is_set():
        return None
    return report(execute.ledger) if execute.ledger.delivered() != before else summary


def follow(ledger: Ledger, mlflow: str | None, track: str | None = None) -> "list[Follower]":
    """Start a process for each tracker that follows the ledger: the MLflow server, unless it is "off", and the one that `track` names."""
    from study.tracking.follower import Follower

    followers = [Follower(ledger, mlflow)] if mlflow != "off" else []
    followers += [Follower(ledger, track)] if track else []
    for follower in followers:
        follower.start()
    return followers


def report(ledger: Ledger, fetch: Gatherer | None = None) -> "ReportSummary":
    """Write the page and its tables. Answers, verdicts, picks and test scores are kept among the study's facts."""
    with busy("writing the report"):
        from analysis.page.card import answer_page
        from analysis.report import write_report

        place = ledger.folder.location
        summary = write_report(ledger, f"{place}/report.html", tables=f"{place}/tables", fetch=fetch, overwrite=True)
        ledger.folder.write("answer.html", answer_page(ledger.study_name, summary.answers).encode("utf-8", "backslashreplace"))
    ledger.add_facts(answers=[a.text for a in summary.answers], verdicts=summary.verdicts, picks=summary.picks, scores=summary.scores)
    return summary
