"""`python -m study.measure RESULTS/STUDY NAME...`: measure the confirm runs of a study that is finished already."""

import argparse
import sys

from study.conduct.workplace import Workplace
from study.console.arguments import Parser, add_places
from study.console.command import command
from study.console.progress import busy, load, warn
from study.errors import ConfigError, StudyError
from study.question.studies import EVERY_MEASURE
from study.question.trial_config import TrialConfig
from study.records import Outcome
from study.storage import lock
from study.tracking.ledger import find


def parser() -> Parser:
    p = Parser(prog="python -m study.measure", description=__doc__)
    p.add_argument("study", help="a study's folder, or a results folder that holds one")
    p.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(EVERY_MEASURE)}, or all")
    add_places(p)
    p.add_argument(
        "--foreign",
        nargs="+",
        default=[],
        metavar="DATA",
        help="other tasks for reprobe, beside the study's own other data sets: names, NAME@SPLITS or folder:PATH",
    )
    p.add_argument(
        "--labelled",
        metavar="PATH",
        help="images of the classes the network was pretrained on, for forgetting: a folder of WordNet ids, or a CSV "
        "(filename,class_index)",
    )
    p.add_argument("--again", action="store_true", help="also where it was measured before")
    return p


@command(parser, "stopped. The same command goes on")
def main(args: argparse.Namespace) -> int:
    ledger = find(args.study)
    load("study.run", "study.conduct.stages")
    from study.measure import MEASUREMENTS, find_measurements

    names = tuple(MEASUREMENTS) if args.names == ["all"] else tuple(args.names)
    find_measurements(names)
    with lock.held(ledger.folder):
        work = Workplace.of(ledger, args.data, args.weights, foreign=args.foreign, labelled=args.labelled)
        missed = measure_study(work, names, args.again)
    return 5 if missed else 0


def measure_study(work: Workplace, names: tuple[str, ...], again: bool = False) -> int:
    """Measure every completed confirm run of today's configurations; return the number that failed, each with a warning that says why.

    Runs of earlier choices are left alone: no result uses them, and test images are not shown to them again.
    """
    from study.conduct.after_search import confirm_asks
    from study.measure import opens_test
    from study.measure.base import FAILED
    from study.run import measure_trial

    study, ledger = work.study, work.ledger
    results = ledger.results()
    if not (chosen := ledger.confirmed_trials()):
        raise ConfigError(
            f"{ledger.folder.shown('selection.json')} is not there, so nothing was confirmed that could be measured. Run python -m "
            f"study.sweep {ledger.folder.location} first."
        )
    planned = confirm_asks(study, ledger, chosen)
    asks = [a for a in planned if a.trial_id in results and results[a.trial_id].outcome is Outcome.COMPLETED]
    with busy("looking at the images"):
        work.check(TrialConfig.from_dict(a.config) for a in asks)
    if opens_test(names) and asks:
        ledger.open_test([a.trial_id for a in asks])
    if not asks:
        warn(f"{ledger.folder.location} has no completed confirm run: nothing to measure")
    missed = 0
    said: set[str] = set()
    for ask in asks:
        left = tuple(n for n in names if again or ledger.measured(ask.trial_id, n) is None)
        folder = ledger.trial_folder(ask.trial_id)
        try:
            reasons = measure_trial(TrialConfig.from_dict(ask.config), work.of_trial(ask.trial_id), left, folder) if left else {}
        except StudyError as error:
            if error.exit_code == 4:
                raise
            warn(f"{ask.cell} seed #{ask.number}: {error}")
            missed += 1
            continue
        missed += any(reason.startswith(FAILED) for reason in reasons.values())
        for name, reason in reasons.items():
            if (line := f"{name} is left out: {reason}") not in said:
                print(line)
                said.add(line)
        made = [n for n in left if n not in reasons]
        print(f"{ask.cell} seed #{ask.number}: {', '.join(made) or 'nothing left to measure'}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
