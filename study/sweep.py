"""A whole study from the command line: check the data, search, confirm with fresh seeds, open the test set once, report.

    python -m study.sweep [NAME | my_study.py | RESULTS/STUDY] [--data ROOT] [--results URL] ...

The same command resumes: finished trials are read back, half-done ones go on. See study/question/studies.py for the studies.
"""

import argparse
import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Literal, TextIO

from study import early
from study.bounds import check_options
from study.conduct.asked import Asked, asked
from study.console.arguments import Parser, add_places, add_settings, number, whole
from study.console.command import command
from study.console.progress import busy, warn
from study.console.signals import interruptible
from study.errors import ConfigError, EnvironmentProblem
from study.question.studies import STUDIES
from study.question.study_config import Study
from study.records import Outcome
from study.scoring.metric import FORMS, MEMBERS
from study.storage.folder import Folder, is_url
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from study.conduct.pipeline import Ended


def _gpus(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else number(text, "a number or auto")


def _factor(text: str) -> int:
    return 0 if text == "off" else whole(text, "a whole number or off")


def parser() -> Parser:
    p, names = Parser(prog="python -m study.sweep", description=__doc__.split("\n")[0]), ", ".join(STUDIES)
    p.add_argument(
        "study",
        nargs="?",
        default="quickstart",
        help=f"{names}, mine (chosen for your --datasets and --hours), your own my_study.py[:NAME], or a begun study's folder",
    )
    p.add_argument("--hours", type=float, help="of mine: how long it may take on this machine, confirmation included (default: 1)")
    add_settings(p, "fields of the protocol or the study: image_size=224 max_epochs=15")
    p.add_argument(
        "--results", help="folder or URL (s3://...) for everything a study leaves (default: results; a begun study's: where it lies)"
    )
    p.add_argument("--name", help="name of the study's folder, when one question is asked twice")
    add_places(p)
    p.add_argument("--trials", type=int, help="per cell. A study that lies here already may grow")
    p.add_argument(
        "--searches", type=int, help="independent ones a cell, among which its trials are split: verdicts are then about strategies"
    )
    p.add_argument("--confirm-seeds", type=int, help="fresh seeds a winner is trained again with. May grow too")
    p.add_argument(
        "--budget-check",
        type=_factor,
        metavar="N|off",
        help="before the test set is opened, each winner once at N times the epochs, on validation. Where that gains, the question is "
        "confirmed at the longer budget, up to --set longest=N (default: 3 and 3)",
    )
    p.add_argument(
        "--worth",
        type=float,
        metavar="POINTS",
        help="points of the metric that you would give for the cheaper strategy: it is good enough where it is shown to cost no more "
        "(default: the margin)",
    )
    p.add_argument(
        "--metric",
        help=f"what search, verdict and words go by: {', '.join(FORMS.get(m, m) for m in MEMBERS)} (default: macro_f1). Costs are a CSV, "
        "the truth in rows",
    )
    p.add_argument("--datasets", nargs="+", help="names, folder:PATH, or NAME@SPLITS such as deepweeds@session")
    p.add_argument("--strategies", nargs="+", help=f"of {', '.join(STRATEGIES)}")
    p.add_argument("--backbones", nargs="+", help="any timm model")
    p.add_argument("--workers", type=int, help="DDP workers a trial")
    p.add_argument("--cpus-per-worker", type=float, default=1.0)
    p.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        help="default: 1 where the cluster has GPUs. A fraction shares one, 'auto' as the trials' measured memory allows",
    )
    p.add_argument("--concurrent", type=int, help="most trials at once (default: as many as fit)")
    where = p.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="in this process, without Ray (default: whatever is expected to end first)")
    where.add_argument("--ray", action="store_true", help="on Ray, however few the trials are")
    p.add_argument("--address", help="a Ray cluster (default: RAY_ADDRESS, else one started on this machine)")
    p.add_argument("--mlflow", metavar="URI", help="MLflow server (default: SQLite under the results folder; 'off' for none)")
    p.add_argument("--track", metavar="KIND:FOLDER", help="a tracker beside it: tensorboard:runs")
    p.add_argument("--strict-tracking", action="store_true", help="exit 4 when MLflow, or the tracker beside it, did not get everything")
    p.add_argument("--max-failed", type=int, help="exit 5 when more trials than this failed")
    p.add_argument("--no-images", dest="images", action="store_false", help="no small copies of images in the results and on the report")
    p.add_argument("--dry-run", action="store_true", help="print what would run, what it costs and what is done already")
    p.add_argument("--json", action="store_true", help="print the verdict as JSON (docs/verdict.schema.json), and all else on stderr")
    p.add_argument("--debug", action="store_true", help="tracebacks instead of one-line errors")
    return p


@command(parser, "stopped. Start again with the same command")
def main(args: argparse.Namespace) -> int:
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr if args.json else out):
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        check_options(hours=args.hours, max_failed=args.max_failed)
        if args.json and args.dry_run:
            raise ConfigError("--json prints a verdict, and --dry-run makes none. Leave one of them out.")
        found = asked(args, parser(), args.words)
        return 0 if found is None else _run(found, args, out)


def _run(found: Asked, args: argparse.Namespace, out: TextIO) -> int:
    """Run the study, or show its plan; return the command's exit code. `out` gets the verdict where it is wanted as JSON."""
    if is_url(found.options.results):  # said now where it cannot be reached, and not after the images were read
        Folder(found.options.results).names()
    with busy("loading PyTorch", soon=True), early.at_once():  # half a minute on a busy machine
        from study.conduct.pipeline import conduct, show_plan
    if args.dry_run:
        show_plan(found.study, found.options)
        return 0
    with interruptible() as interrupted:
        ended = conduct(found.study, found.options, interrupted, found.leftover)
    if interrupted.is_set():
        return interrupted.stopped()
    print_end(ended)
    if args.json:
        print(json.dumps(ended.values, indent=1, allow_nan=False), file=out)
    if args.strict_tracking and ended.unsent:
        return EnvironmentProblem.exit_code
    return verdict_code(ended.study, ended.ledger, args.max_failed)


def print_end(ended: "Ended") -> None:
    """Print the table of the search, the answer of each data set, the network to use, the page's place, and events not sent to MLflow."""
    from study.conduct.plan_tables import print_answers, print_results

    print_results(ended.study, ended.ledger)
    print_answers(ended.answers)
    for line in ended.use:
        print(line)
    print(f"report: {ended.ledger.folder.shown('report.html')}")
    for follower, report in ended.tracked:
        print(follower.how_to_look())
        if report.note:
            print(f"tracking: {report.note}")
    for line in ended.unsent:
        print(line)


def verdict_code(study: Study, ledger: Ledger, max_failed: int | None) -> int:
    """Return 5 when too many trials failed, or when a cell has no result."""
    failed = sum(r.outcome is Outcome.FAILED for r in ledger.results().values())
    chosen = (ledger.selection() or {"chosen": {}})["chosen"]
    empty = {c.id for c in study.cells} - set(chosen)
    for cell in sorted(empty):
        warn(f"{cell}: no finished trial")
    return 5 if empty or (max_failed is not None and failed > max_failed) else 0


if __name__ == "__main__":
    sys.exit(main())
