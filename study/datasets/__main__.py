"""`python -m study.datasets`: list the data sets, fetch one, or have one checked."""

import argparse
import csv
import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from study.console.arguments import Parser, add_data, add_overwrite
from study.console.command import command
from study.console.progress import busy
from study.console.text import shown
from study.console.wide import make_console
from study.datasets import CATALOG, fetch, open_dataset
from study.datasets.audit import SHOWN, AuditReport, Suspect, audit, long_said
from study.datasets.audit_page import KIND as PAGE
from study.datasets.audit_page import write_page
from study.datasets.label_errors import likely_label_errors
from study.datasets.spec import SPLITS, ImageTable
from study.errors import ConfigError, nearest
from study.question.name_parts import OFFICIAL
from study.question.naming import DataName
from study.records import Outcome, Stage, dumps
from study.storage import outputs
from study.tracking.ledger import find

LISTED = ["image", "split", "label", "kind", "detail"]
LIST = outputs.listed("list of an earlier check", LISTED)
OUTPUTS = {"json": outputs.Kind("report of an earlier check", lambda file: _is_report(file)), "html": PAGE, "csv": LIST}


def parser() -> Parser:
    p = Parser(prog="python -m study.datasets", description=__doc__)
    add_data(p)
    commands = p.add_subparsers(dest="command")
    get = commands.add_parser("fetch", help="download a data set, or say how to get it")
    get.add_argument("name")
    get.add_argument("--out", default="data", help="folder to put it into (default: data)")
    check = commands.add_parser("check", help="the data doctor: duplicates, leaks, conflicts, imbalance, unreadable images")
    check.add_argument("what", help="a name, a folder of images, a table of labels, folder:, table: or hf:...")
    check.add_argument("--splits", default="official")
    check.add_argument("--data", default=argparse.SUPPRESS, help="the same, behind check")
    check.add_argument("--json", help="also as JSON")
    check.add_argument("--html", help="also as a page with thumbnails")
    check.add_argument("--csv", help="also every image worth a look, one a row: to act on")
    add_overwrite(check, "--json, --html, --csv")
    check.add_argument("--study", metavar="RESULTS/STUDY", help="a finished study of these data: likely label errors by its networks")
    return p


@command(parser, "stopped. The same command starts again")
def main(args: argparse.Namespace) -> int:
    root = Path(args.data) if args.data else None
    if args.command == "fetch":
        return fetch.fetch(args.name, Path(args.out))
    if args.command == "check":
        return _check(args, root)
    _list(root)
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
    table.add_row("table:PATH", "a table of labels", "official (folds 0-4)", "a .csv, .tsv, .jsonl or .parquet. A row an image", "")
    table.add_row("hf:NAME", "Hugging Face datasets", "official (folds 0-4)", "a name, or a folder of images, Parquet, WebDataset", "")
    make_console(120, markup=False, emoji=False).print(table)


def _check(args: argparse.Namespace, root: Path | None) -> int:
    name = _named(args.what, args.splits)
    written = [(f"--{n}", path, kind) for n, kind in OUTPUTS.items() if (path := getattr(args, n))]
    for option, path, kind in written:
        outputs.check_output(path, kind, option, overwrite=args.overwrite)  # before minutes of reading
    if args.study:
        find(args.study)  # refused before the images are read
    with busy("looking through all images", soon=True, stream=sys.stderr):
        table = open_dataset(name.dataset, splits=name.splits, root=root)
        report = audit(table)
    if args.study:
        found, which = _label_errors(table, args.study, name)
        report = dataclasses.replace(report, suspects=(*found, *report.suspects))
        print(f"{len(found)} {which} whose label is likely wrong, by the networks of {shown(args.study)} that were not trained on them")
    print_report(report)
    for option, path, kind in written:
        if kind is PAGE:
            write_page(table, report, Path(path), overwrite=args.overwrite)
            print(f"page: {shown(path)}")
        elif kind is LIST:
            outputs.write_output(path, _listed(report), kind, option, overwrite=args.overwrite)
            print(f"list: {shown(path)} ({len(report.suspects)} images)")
        else:
            outputs.write_output(path, dumps(report.as_dict(), indent=1).encode(), kind, option, overwrite=args.overwrite)
    return 3 if report.blocking else 0


def _named(what: str, splits: str) -> DataName:
    """Return the data set, its splits given by --splits or, as in a study's cells, by NAME@SPLITS. Raises ConfigError where there is
    none."""
    if os.path.exists(what):
        name = DataName(kind="table" if os.path.isfile(what) else "folder", where=what)
        return DataName.of(name.dataset, splits)
    name = DataName.parse(what)
    if not name.own and name.where not in CATALOG:
        near = nearest(name.where, list(CATALOG))
        raise ConfigError(
            f"{what[:200]!r} is no folder or table here, and no data set: choose from {near}, or give folder:PATH or table:PATH."
        )
    if OFFICIAL not in (name.splits, splits) and name.splits != splits:
        raise ConfigError(f"{what} and --splits {splits} name two protocols. Leave --splits out.")
    return DataName.of(name.dataset, splits) if name.splits == OFFICIAL else name


def _listed(report: AuditReport) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(LISTED)
    rows.writerows([s.image, s.split, s.label, s.kind, s.detail] for s in report.suspects)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _is_report(file: BinaryIO) -> bool:
    known = json.load(file)
    return isinstance(known, dict) and {"dataset", "form", "classes", "counts", "exact_extra"} <= known.keys()


def _label_errors(table: ImageTable, study: str, name: DataName) -> tuple[list[Suspect], str]:
    """Return (likely label errors, among which images), from the predictions of confirm runs for images they were not trained on.

    These are the validation images, or with outer folds all. Raises ConfigError where the study has none on these data.
    """
    ledger = find(study)
    begun = ledger.study()
    assert begun is not None, "it was found by its study.json"
    same = {c.id for c in begun.cells if c.data in (name, name.absolute())}
    folded = begun.folds > 1
    said: dict[object, dict[str, np.ndarray]] = {}  # by run, or by strategy and pass over all images
    for ask, _, result in ledger.trials():
        data = ledger.measured(ask.trial_id, "predictions")
        if (
            ask.cell not in same
            or ask.stage not in (Stage.CONFIRM, Stage.BUDGET)
            or result is None
            or result.outcome is not Outcome.COMPLETED
            or data is None
        ):
            continue
        rows = pq.read_table(io.BytesIO(data)).filter(pc.field("split") == ("test" if folded else "val"))
        own = said.setdefault((ask.cell, ask.number // begun.folds) if folded else ask.trial_id, {})
        own |= dict(zip(rows["image"].to_pylist(), rows["logits"].to_numpy(zero_copy_only=False), strict=True))
    images = max((sorted(own) for own in said.values()), key=len, default=list[str]())
    logits = [np.stack([own[i] for i in images]) for own in said.values() if sorted(own) == images]  # else another fold, or half a pass
    if not logits or not images:
        known = ", ".join(dict.fromkeys(c.data.full for c in begun.cells))
        raise ConfigError(f"{study} has no confirm run on {name.full} with predictions. It is a study of {known}.")
    which = f"of all {len(images):,} images" if folded else "validation images"
    return likely_label_errors(table, images, logits), which


def print_report(report: AuditReport) -> None:
    """Print the report. Its names come from files, so brackets are no markup, and only printable characters reach the terminal."""
    console = make_console(120, markup=False, emoji=False, highlight=False, soft_wrap=True)
    table = Table("class", *SPLITS)
    for k, name in enumerate(report.classes):
        table.add_row(name, *(str(report.counts[s][k]) for s in SPLITS))
    near = "not compared" if report.near_across is None else report.near_across
    console.print(shown(f"{report.dataset}: {report.form}"))
    console.print(table)
    console.print(
        f"exact copies {report.exact_extra}, across splits {report.exact_across}, near-duplicates across splits {near}, label "
        f"conflicts {report.conflicts}"
    )
    console.print(f"always the commonest class: {report.majority_accuracy:.1%} of test")
    if report.metadata_accuracy is not None:
        console.print(f"nearest training image in time: {report.metadata_accuracy:.1%} of test, macro recall {report.metadata_recall:.1%}")
    if line := long_said(report):
        console.print(shown(line))
    for kind in dict.fromkeys(s.kind for s in report.suspects):
        own = [s for s in report.suspects if s.kind == kind]
        for s in own[: SHOWN if kind == "label" else 5]:
            console.print(shown(f"look at ({kind}): {s.image} ({s.split}, {s.label}): {s.detail}"))
        if len(own) > (SHOWN if kind == "label" else 5):
            console.print(f"look at ({kind}): {len(own)} in all; --csv lists them")
    for kind, lines in (("warning", report.warnings), ("unreadable", report.problems), ("left out", report.ignored)):
        for line in lines:
            console.print(shown(f"{kind}: {line}"))


if __name__ == "__main__":
    sys.exit(main())
