"""`python -m study.label RESULTS/STUDY FOLDER --most 60`: the pictures whose labels would decide the study, and the verdict with them.

    python -m study.label results/mine new_photos --most 60      # draws, writes label.csv and label.html
    python -m study.label results/mine --labels labels.csv       # joins them, and says the verdict again

The first verdict stays. docs/label.md says how the pictures are drawn, and what may be said with them.
"""

import argparse
import sys
from pathlib import Path

from study.bounds import check_options
from study.console.arguments import Parser, add_data, add_overwrite
from study.console.command import command
from study.console.progress import load
from study.console.text import shown
from study.errors import ConfigError
from study.storage import lock, outputs
from study.tracking.ledger import placed


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="python -m study.label", description=(__doc__ or "").split(": ", 1)[1].split("\n")[0])
    p.add_argument("study", help="a finished study, RESULTS/STUDY. Behind a colon one of its data sets")
    p.add_argument("folder", nargs="?", type=Path, help="pictures without labels, of the kind that the study is about")
    p.add_argument("--most", type=int, help="how many to label (default 60)")
    p.add_argument("--among", type=int, help="of more pictures, so many are looked at, drawn at random (default 3000)")
    p.add_argument("--labels", type=Path, metavar="FILE", help="the table, filled in: join its labels")
    p.add_argument("--csv", metavar="FILE", default="label.csv", help="where the table is written (default label.csv)")
    p.add_argument("--html", metavar="FILE", default="label.html", help="where the page is written (default label.html)")
    add_data(p, "folder that holds the study's data (or STUDY_DATA)")
    add_overwrite(p, "--csv and --html")
    return p


@command(parser, "stopped. The same command starts again")
def main(args: argparse.Namespace) -> int:
    if (args.folder is None) == (args.labels is None):
        raise ConfigError("give a folder of pictures to draw from, or --labels FILE to join what was labelled. One of both.")
    check_options(most=args.most, among=args.among)
    location, wanted = placed(args.study)
    for line in _join(location, args.labels) if args.labels else _draw(location, wanted, args):
        print(shown(line))
    return 0


def _draw(location: str, wanted: str, args: argparse.Namespace) -> list[str]:
    """Draws and writes table and page; what to say. Raises StudyError."""
    from study.label.filled import TABLE, table
    from study.label.page import render, replaceable
    from study.use.images import find_images

    outputs.check_output(args.csv, TABLE, "--csv", overwrite=args.overwrite)
    found = find_images([args.folder])
    load("study.use.predictor", "study.results")
    from study.label.draw import make_draw, question_to_decide
    from study.results import load_study

    results = load_study(location)
    kind = replaceable(results.frames.labelled)
    outputs.check_output(args.html, kind, "--html", overwrite=args.overwrite)  # before minutes of looking
    gathered, pairs = question_to_decide(results, wanted)
    drawn = make_draw(results, gathered, pairs, args.folder, found.images, args.most or 60, args.among or 3000, args.data)
    ledger = results.frames.ledger
    page = render(drawn.draw, drawn.files, gathered.classes, f"{results.study.name}, {gathered.question.name}", drawn.channels)
    with lock.held(ledger.folder):
        ledger.write_labelled([*ledger.labelled(), drawn.draw])
    outputs.write_output(args.csv, table(drawn.draw), TABLE, "--csv", overwrite=args.overwrite)
    outputs.write_output(args.html, page, kind, "--html", overwrite=args.overwrite)
    for line in [*found.left_out, *drawn.lines]:
        print(shown(line), file=sys.stderr)
    new = sum(image["label"] is None for image in drawn.draw["images"])
    return [
        (
            f"{new} of {drawn.draw['pictures']:,} pictures drawn. With their labels they tell as much as about "
            f"{drawn.draw['worth']:,.0f} drawn at random"
        ),
        f"label them on {args.html} (a key a class; it saves labels.csv), or fill in {args.csv}",
        f"then, with the one that you filled in: python -m study.label {location} --labels labels.csv",
    ]


def _join(location: str, path: Path) -> list[str]:
    """Joins a filled table, writes the report anew; the verdict with it. Raises StudyError."""
    from study.label.join import join_labels
    from study.results import load_study

    results = load_study(location)
    ledger = results.frames.ledger
    with lock.held(ledger.folder):
        join_labels(results, path)
        from study.conduct.pipeline import report

        report(ledger)
    return [*load_study(location).labelled, f"report: {ledger.folder.shown('report.html')}"]


if __name__ == "__main__":
    sys.exit(main())
