"""A whole study: check the data, search, confirm with fresh seeds, open the test set once, report.

    python -m study.sweep [NAME | my_study.py] [--data ROOT] [--results URL] ...

The same command resumes: finished trials are read back, half-done ones go on. See study/studies.py for the studies.
"""

import argparse
import dataclasses
import functools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from analysis.selection import select
from study import backbones, facts, lock, stages
from study.config import Study
from study.cost import disk, fastest_precision
from study.datasets import open_dataset
from study.datasets.audit import audit
from study.datasets.spec import ImageTable
from study.errors import ConfigError, DataError, EnvironmentProblem, StudyError
from study.failpoints import failpoint
from study.files import Folder
from study.plan import print_plan, print_results
from study.progress import warn
from study.records import Outcome, Stage, dumps
from study.signals import Interrupted, interruptible
from study.strategies import STRATEGIES
from study.studies import STUDIES, find_study, narrowed
from study.tracking.ledger import Ledger


def _gpus(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m study.sweep", description=__doc__.split("\n")[0])
    p.add_argument("study", nargs="?", default="quickstart", help=f"{', '.join(STUDIES)}, or your own my_study.py[:NAME]")
    p.add_argument("--results", default="results", help="folder or URL (s3://...) for everything a study leaves")
    p.add_argument("--name", help="name of the study's folder, when one question is asked twice")
    p.add_argument("--data", default=os.environ.get("STUDY_DATA"), help="folder that holds fer2013/, deepweeds/ (or STUDY_DATA)")
    p.add_argument("--weights", default=os.environ.get("STUDY_WEIGHTS"), help="folder of pretrained weights (or STUDY_WEIGHTS)")
    p.add_argument("--trials", type=int, help="per cell; a study that lies here already may grow")
    p.add_argument("--confirm-seeds", type=int, help="fresh seeds a winner is trained again with; may grow too")
    p.add_argument("--datasets", nargs="+", help="names, folder:PATH, or NAME@SPLITS such as deepweeds@session")
    p.add_argument("--strategies", nargs="+", help=f"of {', '.join(STRATEGIES)}")
    p.add_argument("--backbones", nargs="+", help="any timm model")
    p.add_argument("--workers", type=int, help="DDP workers a trial")
    p.add_argument("--cpus-per-worker", type=float, default=1.0)
    p.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        help="default: 1 where the cluster has GPUs; a fraction shares one, 'auto' as the trials' measured memory allows",
    )
    p.add_argument("--concurrent", type=int, help="most trials at once (default: as many as fit)")
    p.add_argument("--local", action="store_true", help="in this process, without Ray")
    p.add_argument("--address", help="a Ray cluster (default: RAY_ADDRESS, else one started on this machine)")
    p.add_argument("--mlflow", metavar="URI", help="MLflow server (default: SQLite under the results folder; 'off' for none)")
    p.add_argument("--strict-tracking", action="store_true", help="exit 4 when MLflow did not get everything")
    p.add_argument("--max-failed", type=int, help="exit 5 when more trials than this failed")
    p.add_argument("--dry-run", action="store_true", help="print what would run, what it costs and what is done already")
    p.add_argument("--debug", action="store_true", help="tracebacks instead of one-line errors")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        study = narrowed(
            find_study(args.study),
            name=args.name,
            trials=args.trials,
            confirm_seeds=args.confirm_seeds,
            workers=args.workers,
            datasets=args.datasets,
            strategies=args.strategies,
            backbones=args.backbones,
        )
        with ExitStack() as stack:
            interrupted = stack.enter_context(interruptible())
            code = sweep(study, args, list(sys.argv[1:] if argv is None else argv), interrupted, stack)
        if interrupted.is_set():
            print("stopped; resume with the same command", file=sys.stderr)
            return interrupted.code
        return code
    except StudyError as error:
        if args.debug:
            raise
        print(f"error: {facts.redact(str(error))}", file=sys.stderr)
        return error.exit_code


def sweep(study: Study, args: argparse.Namespace, argv: list[str], interrupted: Interrupted, stack: ExitStack) -> int:
    places = stages.places(args.results, args.data, args.weights)
    ledger = Ledger(places.results, study.name)

    # ---- check: everything that can be wrong is found before a worker starts ---------------------
    study, probe = settled(study, ledger, places, None if args.local else max(int(args.cpus_per_worker), 1))
    tables = open_tables(study, places)
    classes = {key: len(t.classes) for key, t in tables.items()}
    parameters = check_models(study, classes, places)
    if args.dry_run:
        print_plan(study, ledger, tables, places)
        return 0
    check_room(study, ledger, parameters)
    stack.enter_context(lock.held(ledger.folder))
    failpoint("after_lock")
    before = len(ledger.amendments())
    study = ledger.begin(study, {**facts.environment(argv), **probe, "started_at": time.time()})
    for amendment in ledger.amendments()[before:]:
        print(f"the study grows: {'; '.join(amendment['changes'])}" + (" (its test set is open already)" if amendment["test_open"] else ""))
    ledger.add_facts(data_warnings=check_data(tables, ledger))
    failpoint("after_validate")

    # ---- run --------------------------------------------------------------------------------------
    follower = None
    if args.mlflow != "off":
        from study.tracking.to_mlflow import Follower

        follower = Follower(ledger, args.mlflow)
        follower.start()
    try:
        run = stack.enter_context(backend(study, args, ledger))
        execute = stages.Executor(run, ledger, study, places, tables, interrupted)
        stages.search(execute)
        chosen = choose(ledger) if not interrupted.is_set() else {}
        if chosen and not interrupted.is_set():
            stages.confirm(execute, chosen)
        if interrupted.is_set():
            return interrupted.code
        # ---- report -----------------------------------------------------------------------------------
        ledger.add_facts(finished_at=time.time())
        verdicts = report(ledger)
    finally:
        tracking = follower.close() if follower else None
    print_results(study, ledger)
    for line in verdicts:
        print(line)
    print(f"report: {ledger.folder.path('report.html')}")
    if follower is not None and tracking is not None:
        print(f"MLflow: {follower.how_to_look()}")
        if tracking.pending:
            print(
                f"tracking: {tracking.pending} events not sent ({tracking.problem}); run python -m study.tracking sync {ledger.folder.location}"
                + (f" --mlflow {facts.redact(args.mlflow)}" if args.mlflow else "")
            )
            if args.strict_tracking:
                return EnvironmentProblem.exit_code
    return verdict_code(study, ledger, args.max_failed)


def settled(study: Study, ledger: Ledger, places: stages.Places, threads: int | None = None) -> tuple[Study, dict[str, Any]]:
    """The study with its precision decided: as it was when it first started, else by a short measurement, which is returned."""
    if study.protocol.precision != "auto":
        return study, {}
    known, probe = ledger.study(), dict[str, Any]()
    if known is not None:
        precision = known.protocol.precision
    else:
        names = sorted({c.backbone for c in study.cells})
        precision, rates = fastest_precision(names, study.protocol.image_size, places.weights, threads)
        probe = {"precision_probe": rates}
        print(f"precision {precision}: " + "; ".join(f"{n} {r['fp32']} images/s in fp32, {r['bf16']} in bf16" for n, r in rates.items()))
    return dataclasses.replace(study, protocol=dataclasses.replace(study.protocol, precision=precision)), probe


def open_tables(study: Study, places: stages.Places) -> dict[tuple[str, str], ImageTable]:
    """Every data set of the study, headers read. Raises ConfigError or DataError."""
    tables: dict[tuple[str, str], ImageTable] = {}
    for cell in study.cells:
        key = (cell.dataset, cell.splits.partition(":")[0])
        if key not in tables:
            tables[key] = open_dataset(cell.dataset, splits=cell.splits, root=Path(places.data) if places.data else None)
            print(f"{cell.dataset}: {tables[key].form}")
    return tables


def check_models(study: Study, classes: dict[tuple[str, str], int], places: stages.Places) -> dict[str, int]:
    """Weights are there and every strategy fits its network; returns parameters by backbone. Raises ConfigError."""
    made = {b: backbones.create(b, 2, weights=places.weights) for b in {c.backbone for c in study.cells}}
    stages_of = {name: backbone.num_stages for name, backbone in made.items()}
    for cell in study.cells:
        try:
            STRATEGIES[cell.strategy]().phases(stages_of[cell.backbone], study.protocol.max_epochs)
        except ValueError as error:
            raise ConfigError(f"{cell.id}: {error}") from None
        if classes[cell.dataset, cell.splits.partition(":")[0]] < 2:
            raise DataError(f"{cell.dataset} has fewer than two classes; there is nothing to tell apart.")
    return {name: sum(p.numel() for p in backbone.model.parameters()) for name, backbone in made.items()}


def check_room(study: Study, ledger: Ledger, parameters: dict[str, int]) -> None:
    """Raises EnvironmentProblem when the disk cannot hold what the study will write: better now than after two days."""
    free = ledger.folder.free()
    done = Counter(a.cell for a in ledger.asks() if ledger.result(a.trial_id))
    runs = study.trials + study.confirm_seeds * study.confirm_folds
    needed = disk(study, parameters, {c.id: max(runs - done[c.id], 0) for c in study.cells})
    if free is not None and free < needed:
        raise EnvironmentProblem(
            f"{ledger.folder.location} has {free / 1e9:.2f} GB free and the study may write {needed / 1e9:.2f} GB; "
            "free some, or choose another disk with --results."
        )


def check_data(tables: dict[tuple[str, str], ImageTable], ledger: Ledger) -> list[str]:
    """The data doctor, once per data set and study; its findings stand in data_report.json. Raises DataError."""
    reports, warnings = {}, []
    for (name, splits), table in tables.items():
        found = audit(table)
        reports[f"{name}@{splits}"] = found.as_dict()
        warnings += [f"{name}: {w}" for w in found.warnings]
        if found.blocking:
            raise DataError(f"{name}: {found.problems[0]} (python -m study.datasets check {name} shows all)")
    ledger.folder.write("data_report.json", dumps(reports, indent=1).encode())
    for line in warnings:
        warn(line)
    return warnings


@contextmanager
def backend(study: Study, args: argparse.Namespace, ledger: Ledger) -> Iterator[Callable[..., None]]:
    """How trials are run: yields the function that runs a plan, here or on Ray."""
    if args.local:
        from study.search import local

        yield lambda *plan, total, **settings: local.run(*plan, **settings)
        return
    from study.search.on_ray.cluster import Resources, cluster  # chosen at run time: Ray takes seconds to load
    from study.search.on_ray.tuner import run

    with cleared(ledger.folder, ".ray"), cluster(args.address) as nodes:  # Tune's own files; the ledger needs none of them
        gpus, share = args.gpus_per_trial, args.gpus_per_trial == "auto"
        if gpus is None or share:
            gpus = float(study.protocol.workers) if any(node.get("GPU", 0) for node in nodes) else 0.0
        resources = Resources(
            workers=study.protocol.workers,
            cpus_per_worker=args.cpus_per_worker,
            gpus_per_trial=gpus,
            share_gpus=share and gpus == 1,  # without GPUs there is nothing to share, and workers of one trial share none
            concurrent=args.concurrent,
        )
        resources.fit(nodes)
        yield functools.partial(run, resources=resources, nodes=nodes, storage=f"{ledger.folder.location}/.ray")


@contextmanager
def cleared(folder: Folder, name: str) -> Iterator[None]:
    """Removes what lies there when all who write there have ended."""
    try:
        yield
    finally:
        folder.remove(name)


def choose(ledger: Ledger) -> dict[str, str]:
    """Which trial speaks for each cell: decided by a named rule once its search is done, and written down. A search that grew decides again."""
    known, results = ledger.selection(), ledger.results()
    trials = [(a, results[a.trial_id]) for a in ledger.asks(Stage.SEARCH) if a.trial_id in results]
    if known is not None and (not ledger.amendments() or known.get("considered") == len(trials)):
        return dict(known["chosen"])
    rule, chosen = select(trials)
    ledger.write_selection(rule, chosen, len(trials))
    for ask in ledger.asks(Stage.SEARCH):  # one network a cell is kept: forty trials of checkpoints fill disks
        if ask.trial_id not in chosen.values():
            ledger.trial_folder(ask.trial_id).remove("best")
    return chosen


def report(ledger: Ledger) -> list[str]:
    from analysis.report import write_report

    summary = write_report(ledger, f"{ledger.folder.location}/report.html", tables=f"{ledger.folder.location}/tables")
    ledger.add_facts(verdicts=summary.verdicts)
    return list(summary.verdicts)


def verdict_code(study: Study, ledger: Ledger, max_failed: int | None) -> int:
    """5 when too many trials failed, or when a cell has nothing to show."""
    results = ledger.results()
    failed = sum(r.outcome is Outcome.FAILED for r in results.values())
    empty = {c.id for c in study.cells} - set((ledger.selection() or {"chosen": {}})["chosen"])
    for cell in sorted(empty):
        warn(f"{cell}: no finished trial")
    return 5 if empty or (max_failed is not None and failed > max_failed) else 0


if __name__ == "__main__":
    sys.exit(main())
