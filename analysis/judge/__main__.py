"""`python -m analysis.judge a.csv b.csv labels.csv`: which of two networks is better, by their predictions, wherever they were made.

Of several trainings a side: `python -m analysis.judge --a a1.csv a2.csv a3.csv --b b1.csv b2.csv b3.csv --labels labels.csv`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.judge.as_values import judged_values
from analysis.judge.judged import Judged, Side, judge
from analysis.judge.labels import Labels, named_table, read_labels
from analysis.judge.page import KIND, render
from analysis.judge.predictions import read_predictions
from analysis.judge.words import lines, warnings
from analysis.page.verdict_values import dump_values
from analysis.statistics.resampling import RESAMPLES
from study.bounds import check_options
from study.console.arguments import Parser, add_overwrite
from study.console.command import command
from study.console.text import shown
from study.errors import ConfigError
from study.scoring.metric import FORMS, MEMBERS, Metric, find_metric
from study.storage import outputs

MOST_FILES = 100  # a side
CODES = {"a": 10, "b": 11, "equal": 0, "open": 12}
"""Exit codes of --exit-code: A or B is better, there is no difference worth the margin, or nothing was decided."""


def parser() -> Parser:
    """Build the parser of the command line."""
    p = Parser(prog="python -m analysis.judge", description=(__doc__ or "").split("\n")[0])
    p.add_argument(
        "files", nargs="*", metavar="FILE", help="A's predictions, B's predictions, and the labels: .csv, .tsv, .jsonl or .parquet"
    )
    p.add_argument("--a", nargs="+", default=[], metavar="FILE", help="A's predictions, a file a training (seed)")
    p.add_argument("--b", nargs="+", default=[], metavar="FILE", help="B's predictions, a file a training (seed)")
    p.add_argument("--labels", metavar="FILE", help="the labels, where --a and --b are given")
    p.add_argument("--names", nargs=2, metavar=("A", "B"), help="what to call the two sides (default: by their files)")
    p.add_argument("--groups", metavar="COLUMN", help="of the labels: what belongs together, as a patient's images do")
    p.add_argument("--classes", nargs="+", metavar="CLASS", help="all classes, where some have no test image")
    p.add_argument("--metric", default="macro_f1", help=f"one of {', '.join(FORMS.get(m, m) for m in MEMBERS)} (default: macro_f1)")
    p.add_argument(
        "--margin", type=float, help="a difference that is worth having, in the metric's unit (default: 1; of costs, the cheapest mistake)"
    )
    p.add_argument("--json", action="store_true", help="print the verdict as JSON instead (docs/verdict.schema.json)")
    p.add_argument("--out", default="verdict.html", help="the page (default: verdict.html)")
    exits = "end with 10 where A is better, 11 where B is, 0 where they are equal, 12 else"
    p.add_argument("--exit-code", action="store_true", help=exits)
    add_overwrite(p, "--out")
    return p


@command(parser, "stopped")
def main(args: argparse.Namespace) -> int:
    metric = find_metric(args.metric)
    check_options(margin=args.margin)
    own, others, given = _sides(args.files, args.a, args.b, args.labels)
    outputs.check_output(args.out, KIND, "--out", overwrite=args.overwrite)
    names = _names(own, others, args.names)
    truth = read_labels(given, groups=args.groups, classes=args.classes)
    a, b = (_read(name, files, truth, metric) for name, files in zip(names, (own, others), strict=True))
    found = judge(truth, a, b, metric=args.metric, margin=args.margin)
    page = render(found, RESAMPLES)
    outputs.write_output(args.out, page.encode("utf-8", "backslashreplace"), KIND, "--out", overwrite=args.overwrite)
    if args.json:
        print(dump_values(judged_values(found)))
    else:
        for line in lines(found):
            print(shown(line))
        print(f"page: {shown(args.out)}")
    for line in warnings(found):
        print(f"warning: {shown(line)}", file=sys.stderr)
    return _code(found) if args.exit_code else 0


def _sides(files: Sequence[str], a: list[str], b: list[str], labels: str | None) -> tuple[list[str], list[str], str]:
    """Return (A's files, B's files, the labels) from either form of the command line. Raises ConfigError."""
    if not a and not b:
        if len(files) == 2 and labels:
            return [files[0]], [files[1]], labels
        if len(files) != 3 or labels:
            raise ConfigError(
                f"{len(files)} files are given. Give A's predictions, B's and the labels, or, of several trainings a side, "
                "--a a1.csv a2.csv --b b1.csv b2.csv --labels labels.csv."
            )
        return [files[0]], [files[1]], files[2]
    if not a or not b or (len(files) + (labels is not None)) != 1:
        missing = "--a" if not a else "--b" if not b else "--labels" if not files and labels is None else ""
        raise ConfigError(
            (f"{missing} is missing" if missing else f"{files[0]} belongs to no side")
            + ". Give all three: --a a1.csv a2.csv --b b1.csv b2.csv --labels labels.csv."
        )
    for side, own in (("--a", a), ("--b", b)):
        if len(own) > MOST_FILES:
            raise ConfigError(f"{side} has {len(own)} files, more than {MOST_FILES}. Leave some out.")
        if twice := next((f for f in own if own.count(f) > 1), None):
            raise ConfigError(f"{side} names {twice} twice. One training counts once.")
    return a, b, labels or files[0]


def _names(own: Sequence[str], others: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """Return the names of the sides: as given, or the names of their files without run numbers.

    Raises ConfigError where both have the same name.
    """
    if given:
        if given[0] == given[1] or not all(n.strip() for n in given):
            raise ConfigError(f"--names {given[0]!r} {given[1]!r}: each side needs a name of its own.")
        return list(given)
    stems = [[Path(named_table(f).where).stem for f in files] for files in (own, others)]
    names = [s[0] if len(s) == 1 else os.path.commonprefix(s).rstrip("_-. ") for s in stems]
    return names if all(names) and names[0] != names[1] else ["A", "B"]


def _read(name: str, files: Sequence[str], truth: Labels, metric: Metric) -> Side:
    """Read the predictions of a side.

    For costs it takes the class that costs least by the probabilities of a file, or the class that it names where it has none.
    """
    said = [read_predictions(f, truth, probable=metric.probable, costs=metric.costs is not None) for f in files]
    bound, shares = metric.bind(truth.classes), [s.probabilities for s in said]
    named = [bound.decide(s.probabilities) if metric.costs and s.probabilities is not None else s.named for s in said]
    return Side(name=name, files=tuple(files), said=tuple(named), probabilities=tuple(s for s in shares if s is not None))


def _code(found: Judged) -> int:
    d = found.pair.decision
    if d.kind in ("beats", "better"):
        return CODES[d.winner or "open"]
    return CODES["equal"] if d.kind in ("equivalent", "better_by_little") else CODES["open"]


if __name__ == "__main__":
    sys.exit(main())
