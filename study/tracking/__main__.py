"""`python -m study.tracking sync RESULTS`: send MLflow what it has not got; `fetch FOLDER --study NAME`: rebuild a study from it;
`export RESULTS/STUDY --optuna sqlite:///x.db`: the search for optuna-dashboard.

`follow` is what a sweep starts beside itself.
"""

import argparse
import os
import select
import sys
from dataclasses import asdict
from pathlib import Path

from study import early
from study.console.arguments import Parser
from study.console.command import command
from study.console.text import redact
from study.errors import ConfigError
from study.question.study_config import check_name
from study.records import dumps
from study.storage.options import check_receiver, check_track, check_tracking, server_and_study
from study.tracking.ledger import Ledger, find, studies
from study.tracking.tracker import SyncReport, Tracker
from study.tracking.trackers import TRACKERS, open_tracker

POLL_S = 2.0
LONGEST_WAIT_S = 60.0


def parser() -> Parser:
    p = Parser(prog="python -m study.tracking", description=__doc__)
    commands = p.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="one pass. Exit 4 when something could not be sent, or is wrong there")
    follow = commands.add_parser("follow", help="poll until stdin closes, then a last pass")
    for own in (sync, follow):
        own.add_argument("results", help="a study's folder, or the results folder")
        own.add_argument("--mlflow", default=os.environ.get("STUDY_MLFLOW_URI"), help="server (default: SQLite under the results)")
        own.add_argument("--track", metavar="KIND:PLACE", help="another tracker instead: tensorboard:FOLDER")
    fetch = commands.add_parser("fetch", help="a study's files, from the server alone")
    fetch.add_argument("results", help="folder that will hold the study's")
    fetch.add_argument("--study", help="its name, where the server holds several")
    fetch.add_argument("--mlflow", default=os.environ.get("STUDY_MLFLOW_URI"), help="server (or STUDY_MLFLOW_URI), URI or URI#STUDY")
    fetch.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # the process that does it, and is ended when time is up
    fetch.add_argument("--overwrite", action="store_true", help="also replace files that lie there and were not fetched as they are")
    export = commands.add_parser("export", help="the whole search, every cell a study of Optuna's")
    export.add_argument("results", help="a study's folder")
    export.add_argument("--optuna", required=True, metavar="URL", help="database that Optuna opens, as sqlite:///x.db")
    return p


@command(parser, "stopped. The same command goes on")
def main(args: argparse.Namespace) -> int:
    if args.command == "fetch":
        check_tracking(server_and_study(args.mlflow or "")[0])
    elif args.command != "export" and (args.mlflow or "").partition(":")[0] not in TRACKERS:  # a follower is told of those in its place
        check_receiver(args.mlflow)
    check_track(getattr(args, "track", None))
    if args.command == "fetch":
        return _fetch(args)
    if args.command == "export":
        return _export(find(args.results), args.optuna)
    before = os.umask(0o077)  # what MLflow writes beside the studies is for its owner alone, as they are
    try:
        if args.command == "follow":
            return _follow(args.results, args.track or args.mlflow)
        ledgers = [Ledger(args.results, n) for n in studies(args.results)] or [find(args.results)]
        for name in (ledger.study_name for ledger in ledgers):
            check_name(name, " Rename its folder.")
        tracker = open_tracker(args.track or args.mlflow)
        return max(_sync(ledger, tracker) for ledger in ledgers)
    finally:
        os.umask(before)


def _sync(ledger: Ledger, tracker: Tracker) -> int:
    with early.at_once():
        report = tracker.sync(ledger)
    said = "".join(f": {line}" for line in (report.problem, report.note) if line)
    print(f"{ledger.study_name}: {report.sent} events sent, {report.pending} pending{said}")
    return 4 if report.lack else 0


def _fetch(args: argparse.Namespace) -> int:
    from study.tracking.from_mlflow import fetch, read

    if not args.mlflow:
        raise ConfigError("fetch needs a server: give --mlflow URI, or set STUDY_MLFLOW_URI.")
    server, named = server_and_study(args.mlflow)
    bring = fetch if args.alone else read
    print(bring(server, args.study or named, Path(args.results), overwrite=args.overwrite).study_name)
    return 0


def _export(ledger: Ledger, uri: str) -> int:
    from study.search.to_optuna import export

    for name, trials in export(ledger, uri).items():
        print(f"{name}: {trials} trials")
    print(f"optuna-dashboard {redact(uri)}")
    return 0


def _follow(location: str, address: str | None) -> int:
    """Follow a ledger until the sweep closes stdin. After every failure it waits longer; training continues meanwhile."""
    os.nice(10)
    parent, _, name = location.rpartition("/")
    ledger = Ledger(parent, name)
    tracker, sent, wait = None, 0, POLL_S
    while True:
        last = bool(select.select([sys.stdin], [], [], wait)[0])  # readable: the sweep has closed it
        try:
            tracker = tracker or open_tracker(address)
            report = tracker.sync(ledger)
        except Exception as error:
            report = SyncReport(pending=1, problem=f"{type(error).__name__}: {error}"[:300])
        sent += report.sent
        if last:
            print(dumps({**asdict(report), "sent": sent}), flush=True)
            return 0
        wait = min(wait * 2, LONGEST_WAIT_S) if report.problem else POLL_S


if __name__ == "__main__":
    sys.exit(main())
