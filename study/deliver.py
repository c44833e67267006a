"""`python -m study.deliver RESULTS/STUDY[:WHICH]`: train the network that is handed over, as long as it pays, on all images \
that may be used.

    python -m study.deliver results/mine --dry-run      # what would be trained, and how long it would take
    python -m study.deliver results/mine --hours 1

The same command resumes. It changes nothing of the verdict: docs/deliver.md says what it does.
"""

import argparse
import dataclasses
import json
import logging
import math
import os
import sys

from study import early
from study.bounds import check_options
from study.conduct.workplace import Workplace
from study.console.arguments import Parser, add_places
from study.console.command import command
from study.console.progress import busy
from study.console.signals import Interrupted, interruptible
from study.console.text import redact, shown
from study.storage import lock
from study.storage.folder import Folder
from study.storage.options import OFF, check_receiver
from study.storage.outputs import SQLITE
from study.tracking.client import default_uri
from study.tracking.ledger import Ledger, find, placed


def parser() -> Parser:
    p = Parser(prog="python -m study.deliver", description=__doc__.split(": ", 1)[1].split("\n")[0])
    which = "a finished study, RESULTS/STUDY. Behind a colon one of its data sets, or a strategy to deliver in the place of the verdict's"
    p.add_argument("study", help=which)
    p.add_argument("--hours", type=float, default=math.inf, help="most that it may take (default: as long as longer training pays)")
    p.add_argument("--again", action="store_true", help="also where a network was delivered before, which is kept beside the new one")
    add_places(p)
    p.add_argument(
        "--mlflow", metavar="URI", help="MLflow server (default: SQLite under the results, where the study was sent there; or off)"
    )
    p.add_argument("--dry-run", action="store_true", help="print what would be trained, and how long it would take")
    return p


@command(parser, "stopped. Start again with the same command")
def main(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    check_options(hours=None if args.hours == math.inf else args.hours)
    if args.mlflow != OFF:
        check_receiver(args.mlflow)
    location, wanted = placed(args.study)
    ledger = find(location)
    with interruptible() as interrupted:
        lines = _deliver(ledger, wanted, args, interrupted)
    if interrupted.is_set():
        return interrupted.stopped()
    for line in lines:
        print(line)
    return 0


def _deliver(ledger: Ledger, wanted: str, args: argparse.Namespace, interrupted: Interrupted) -> list[str]:
    """Check, then train in this process; return the lines to print at the end. Raises StudyError for errors that a user can mend."""
    with busy("loading PyTorch"), early.at_once():
        from study.conduct.checks import check_batches, check_models, open_tables
        from study.conduct.delivery import deliver, ordered, plan_lines
        from study.conduct.pipeline import follow, report
        from study.conduct.same_images import check_same
        from study.conduct.stages import Executor
        from study.search import local
    work = Workplace.of(ledger, args.data, args.weights)
    study, places = work.study, work.places
    tables = open_tables(study, places)
    check_same(tables, ledger)
    check_batches(dataclasses.replace(study, deliver=True), tables, places)
    with busy("reading the study"):
        orders, stay = ordered(ledger, tables, wanted, hours=args.hours, again=args.again)
    kept = [s.text for s in stay]
    if args.dry_run or not orders:
        return [*plan_lines(orders, ledger), *kept]
    check_models(study, places, [o.pick.cell for o in orders])
    for line in plan_lines(orders, ledger):
        print(line, flush=True)
    uri, unsent = _mlflow(ledger, args.mlflow)
    with lock.held(ledger.folder):
        followers = follow(ledger, uri)
        try:
            deliver(Executor(local.run, work, tables, interrupted), wanted, hours=args.hours, again=args.again)
            use = [] if interrupted.is_set() else report(ledger).use
        finally:
            sent = [f.close() for f in followers]
    problem = [f"tracking: {s.lack}" for s in sent if s.lack]
    return [*kept, *use, f"report: {ledger.folder.shown('report.html')}", *problem, *unsent]


def _mlflow(ledger: Ledger, given: str | None) -> tuple[str | None, list[str]]:
    """Return (the MLflow to mirror it to, None being the SQLite beside the study; the command left to run): as the study was mirrored
    before."""
    if given is not None or not (data := ledger.folder.read("mlflow.json")):
        return given or "off", []
    known = str(json.loads(data).get("uri"))
    if known == redact(default_uri(ledger)) or _was_beside(known, ledger):
        return None, []
    return "off", [f"tracking: not sent. Run python -m study.tracking sync {ledger.folder.location} --mlflow {shown(known)}"]


def _was_beside(uri: str, ledger: Ledger) -> bool:
    """Return True for the database beside the folder that this study was copied or moved from: the copy has its own."""
    file = uri.removeprefix(SQLITE)
    folder, name = os.path.split(file)
    beside = file != uri and name == os.path.basename(default_uri(ledger))
    return beside and (not os.path.exists(file) or Folder(folder).exists(f"{ledger.study_name}/study.json"))


if __name__ == "__main__":
    sys.exit(main())
