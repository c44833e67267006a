"""`python -m study.datasets`: list the data sets, fetch one, or have one checked."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.datasets import CATALOG, fetch, open_dataset
from study.datasets.audit import AuditReport, audit
from study.datasets.page import write_page
from study.datasets.spec import SPLITS
from study.errors import ConfigError, StudyError
from study.facts import shown, tell
from study.files import Folder
from study.records import dumps


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m study.datasets", description=__doc__)
    parser.add_argument("--data", default=os.environ.get("STUDY_DATA"), help="folder that holds fer2013/, deepweeds/ (or STUDY_DATA)")
    commands = parser.add_subparsers(dest="command")
    get = commands.add_parser("fetch", help="download a data set, or say how to get it")
    get.add_argument("name")
    get.add_argument("--out", default="data", help="folder to put it into (default: data)")
    check = commands.add_parser("check", help="the data doctor: duplicates, leaks, conflicts, imbalance, unreadable images")
    check.add_argument("what", help="a name, or a folder of images")
    check.add_argument("--splits", default="official")
    check.add_argument("--data", default=os.environ.get("STUDY_DATA"))
    check.add_argument("--json", help="also as JSON")
    check.add_argument("--html", help="also as a page with thumbnails")
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of another encoding shows escapes, not a traceback
    try:
        root = Path(args.data) if args.data else None
        if args.command == "fetch":
            return fetch.fetch(args.name, Path(args.out))
        if args.command == "check":
            return _check(args, root)
        _list(root)
    except StudyError as error:
        return tell(error)
    return 0


def _list(root: Path | None) -> None:
    table = Table("name", "what", "splits", "where", "found")
    for spec in CATALOG.values():
        folder = root / spec.name if root else None
        found = "yes" if "ROOT" not in spec.where or (folder and folder.is_dir()) else f"no {folder}" if folder else "give --data ROOT"
        splits = ", ".join(spec.split_protocols) + (f" (folds 0-{spec.folds - 1})" if spec.folds > 1 else "")
        table.add_row(spec.name, spec.about, splits, spec.where, found)
    table.add_row(
        "folder:PATH", "your own images", "official (folds 0-4)", "PATH/<class>/*.jpg, or PATH/{train,val,test}/<class>/*.jpg", ""
    )
    Console(markup=False, emoji=False).print(table)


def _check(args: argparse.Namespace, root: Path | None) -> int:
    name = args.what if args.what in CATALOG or args.what.startswith("folder:") else f"folder:{args.what}"
    if name == f"folder:{args.what}" and not os.path.exists(args.what):
        raise ConfigError(f"{args.what[:200]!r} is neither a data set ({', '.join(CATALOG)}) nor a folder.")
    table = open_dataset(name, splits=args.splits, root=root)
    report = audit(table)
    print_report(report)
    if args.json:
        Folder(str(Path(args.json).parent)).write(Path(args.json).name, dumps(report.as_dict(), indent=1).encode())
    if args.html:
        write_page(table, report, Path(args.html))
        print(f"page: {shown(args.html)}")
    return 3 if report.blocking else 0


def print_report(report: AuditReport) -> None:
    """Names in it are strangers': nothing in brackets is markup, and nothing but printable characters reaches the terminal."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    table = Table("class", *SPLITS)
    for k, name in enumerate(report.classes):
        table.add_row(name, *(str(report.counts[s][k]) for s in SPLITS))
    near = "not compared" if report.near_across is None else report.near_across
    console.print(shown(f"{report.dataset}: {report.form}"))
    console.print(table)
    console.print(
        f"exact copies {report.exact_extra}, across splits {report.exact_across}, near-duplicates across splits {near}, label conflicts {report.conflicts}"
    )
    console.print(f"always the commonest class: {report.majority_accuracy:.1%} of test")
    if report.metadata_accuracy is not None:
        console.print(f"nearest training image in time: {report.metadata_accuracy:.1%} of test, macro recall {report.metadata_recall:.1%}")
    for kind, lines in (("warning", report.warnings), ("unreadable", report.problems), ("left out", report.ignored)):
        for line in lines:
            console.print(shown(f"{kind}: {line}"))


if __name__ == "__main__":
    sys.exit(main())
