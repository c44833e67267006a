"""`python -m study.predict RESULTS/STUDY[:CELL] FOLDER --csv out.csv`: classify images with what a study found."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from study.bounds import check_options
from study.console.arguments import Parser, add_data
from study.console.command import command
from study.console.progress import load
from study.console.text import shown
from study.datasets.no_images import ways_out
from study.datasets.spec import some
from study.errors import ConfigError, DataError
from study.storage import outputs
from study.storage.folder import Folder
from study.tracking.ledger import placed
from study.use.asked import Asked, MakesSets
from study.use.images import Found, find_images, read_batches
from study.use.table import PredictionsCsv

if TYPE_CHECKING:
    from study.scoring.decide import Deciding
    from study.use.predictor import Predictor
    from study.use.unknown import Unknown

BATCH = 64
WARNING = "warning: "


def parser() -> Parser:
    p = Parser(prog="python -m study.predict", description="Classify images with the network a study found, or with a trial's.")
    p.add_argument("network", help="a study, RESULTS/STUDY or RESULTS/STUDY:CELL (a data set, a strategy, or both: mini_weeds/partial; "
                   "'compared' for the one of the report where another was delivered), or a trial's folder "
                   "RESULTS/STUDY/trials/ID")  # fmt: skip
    p.add_argument("images", nargs="+", help="image files, or folders: what lies below them is looked through")
    p.add_argument("--csv", metavar="FILE", help="write a row an image. What is there already is gone on with")
    p.add_argument("--json", action="store_true", help="a JSON object a line, with the probability of every class to its last digit")
    p.add_argument("--ensemble", action="store_true", help="all confirm runs of the strategy together, at as many times the cost")
    p.add_argument("--uncalibrated", action="store_true", help="probabilities as trained, without the temperature fitted on validation")
    p.add_argument(
        "--sets",
        type=float,
        metavar="LEVEL",
        help="besides, every class that may be the true one: in LEVEL (0.95) of the images it is among them",
    )
    p.add_argument(
        "--none",
        action="store_true",
        help="besides, whether the picture may show none of the classes. The first time this looks at the study's images (--data)",
    )
    add_data(p, "for --none: folder that holds the data (or STUDY_DATA)")
    p.add_argument("--batch", type=int, default=BATCH, help=f"images held and scored at a time (default {BATCH})")
    return p


@command(parser, "stopped. With --csv, the same command goes on")
def main(args: argparse.Namespace) -> int:
    check_options(batch=args.batch, sets=args.sets)
    if args.csv and args.json:
        raise ConfigError("--csv writes a table and --json prints lines. Leave one of them out.")
    if args.csv:
        outputs.check_place(args.csv, "--csv")  # before libraries are loaded
    if not _is_network(args.network):
        placed(args.network)
    found = find_images([Path(p) for p in args.images])
    load("study.use.predictor", "study.results")
    predictor, name, about = open_network(args.network, ensemble=args.ensemble, calibrated=not args.uncalibrated)
    sets = None
    if args.sets is not None:
        if predictor.several:
            raise ConfigError(f"--sets is for images of one class each, and {args.network} names several labels. Leave it out.")
        sets = open_sets(args.network, args.sets, ensemble=args.ensemble, calibrated=not args.uncalibrated)
    unknown = open_unknown(args.network, args.data) if args.none else None
    asked = Asked(predictor.classes, sets, unknown, predictor.deciding.text(predictor.classes))
    for line in [*(about if args.csv else [line for line in about if line.startswith(WARNING)]), *asked.texts]:
        print(line, file=sys.stderr)
    if args.csv:
        return to_csv(predictor, f"{name}{asked.kind}", found, Path(args.csv), args.batch, asked)
    return to_lines(predictor, found, args.batch, as_json=args.json, asked=asked)


def _is_network(place: str) -> bool:
    """Return True for a trial's folder, or a network's own."""
    return any(Folder(place).exists(name) for name in ("best/manifest.json", "manifest.json", "config.json"))


def open_network(place: str, *, ensemble: bool = False, calibrated: bool = True) -> tuple["Predictor", str, list[str]]:
    """Return (network, its name in a table, lines about it) of a study, a cell of it, or a trial's folder.

    A trial's network is returned as it was trained, without a temperature.
    """
    from study.results import open_place
    from study.use.predictor import Predictor

    if _is_network(place):
        if ensemble:
            raise ConfigError(f"{place} is one trial; --ensemble takes a study's folder, RESULTS/STUDY[:CELL].")
        alone = Predictor.from_folder(place)
        return alone, alone.kept.trial, [f"trial {alone.kept.trial}, probabilities as trained"]
    results, cell = open_place(place)
    pick = results.pick(cell, compared=ensemble)
    predictor = results.predictor(cell, ensemble=ensemble, calibrated=calibrated)
    together = pick.together.calibrated if ensemble and pick.together else None
    of = together.text if together else pick.probabilities
    temperature = of if calibrated else "probabilities as trained"
    older = [f"{WARNING}{results.unfinished}"] if results.unfinished else []
    older += [f"{WARNING}{pick.outdated}. To deliver anew, run python -m study.deliver {results.folder} --again"] if pick.outdated else []
    kind = "" if calibrated or not pick.calibrated else " uncalibrated"  # one table holds one kind of probabilities
    if calibrated and not pick.deciding.usual:
        older = [*older, f"it {pick.deciding.text(pick.metric.classes)}"]
        kind += _mark(pick.deciding, pick.metric.classes)
    if ensemble:
        return predictor, "+".join(pick.trials) + kind, [f"{pick.of}: {pick.cell.strategy}, {pick.gain}; {temperature}", *older]
    return predictor, pick.trial + kind, [f"{pick.of}: {pick.named}, trial {pick.trial}, {pick.scores}; {temperature}", *older]


def _mark(rule: "Deciding", classes: Sequence[str]) -> str:
    """Return a mark that tells a table of one rule from that of another."""
    return f" {rule.metric.name}" if rule.threshold is None else f" {rule.metric.name} {classes[rule.of]} {rule.threshold:.4g}"


def open_sets(place: str, level: float, *, ensemble: bool = False, calibrated: bool = True) -> MakesSets:
    """Return the prediction sets of a study's network. Raises ConfigError for a trial's folder, of which no other images are known."""
    from study.results import open_place

    if _is_network(place):
        raise ConfigError(f"{place} is one trial, and --sets needs images that it did not learn from: give a study, RESULTS/STUDY[:CELL].")
    results, cell = open_place(place)
    return results.prediction_sets(cell, level, ensemble=ensemble, calibrated=calibrated)


def open_unknown(place: str, data: str | None) -> "Unknown":
    """Return what tells pictures of none of the classes.

    Raises ConfigError for a trial's folder, and where the study keeps no line to beat.
    """
    from study.conduct.known_features import unknown_of
    from study.results import open_place

    if _is_network(place):
        raise ConfigError(f"{place} is one trial, and --none goes by the images of its study: give the study, RESULTS/STUDY[:CELL].")
    results, cell = open_place(place)
    found = unknown_of(results.frames.ledger, results.pick(cell).cell, data)
    assert found is not None, "it may be made"
    return found


def to_csv(predictor: "Predictor", name: str, found: Found, path: Path, batch: int, asked: Asked | None = None) -> int:
    """Write one row for each image; rows of unreadable images say why."""
    several = predictor.several
    with PredictionsCsv(path, predictor.classes, name, map(str, found.images), more=asked, several=several) as table:
        left = [p for p in found.images if not table.has(str(p))]
        if len(left) < len(found.images):
            print(f"{path}: {len(found.images) - len(left)} images are there already, {len(left)} are left", file=sys.stderr)
        if changed := [p for p in found.images if table.is_older_than(str(p))]:
            print(
                f"warning: {path}: {len(changed)} of these images were changed after their rows were written "
                f"({some([str(p) for p in changed], 3)}). To predict them anew, choose another file with --csv",
                file=sys.stderr,
            )
        if table.retried:
            print(f"{path}: {len(table.retried)} images that could not be read before are tried again", file=sys.stderr)
        bad: list[tuple[str, str]] = []
        with _bar() as bar:
            task = bar.add_task("images", total=len(left))
            for readable, problems in read_batches(left, predictor.read, batch):
                if readable:
                    shares = predictor(np.stack([image for _, image in readable]))
                    table.add([str(p) for p, _ in readable], shares, predictor.named(shares))
                table.add_problems(problems)
                bad += problems
                bar.advance(task, len(readable) + len(problems))
    print(f"{len(left) - len(bad)} images predicted: {path}")
    for line in [*found.left_out, *_listed(bad)]:
        print(line, file=sys.stderr)
    return DataError.exit_code if len(bad) == len(found.images) else 0


def to_lines(predictor: "Predictor", found: Found, batch: int, *, as_json: bool, asked: Asked | None = None) -> int:
    """Print one line for each image, each scored alone, so that the other images change no digit."""
    bad: list[tuple[str, str]] = []
    for readable, problems in read_batches(found.images, predictor.read, batch):
        bad += problems
        for path, image in readable:
            (row,) = predictor(image[None])
            if predictor.several:
                _print_labels(predictor, path, row, as_json)
                continue
            more = asked.values([str(path)], row[None])[0] if asked else {}
            if as_json:
                own = {} if predictor.deciding.usual else {"class": predictor.classes[int(predictor.named(row[None])[0])]}
                answer = {"image": str(path), **own, "probabilities": dict(zip(predictor.classes, row.tolist(), strict=True))}
                print(json.dumps(answer | more))
                continue
            said = predictor.named(row[None])
            top = [*said, *(k for k in np.argsort(-row)[:3] if k != said[0])][:3]
            in_words = asked.words(more) if asked else []
            print(shown(str(path)), *(f"{shown(predictor.classes[k])} {row[k]:.3f}" for k in top), *in_words, sep="\t")
    for line in [*found.left_out, *_listed(bad)]:
        print(line, file=sys.stderr)
    return DataError.exit_code if len(bad) == len(found.images) else 0


def _print_labels(predictor: "Predictor", path: Path, row: np.ndarray, as_json: bool) -> None:
    """Print the labels of an image whose probabilities are `row` [C]."""
    own = [predictor.classes[k] for k in np.flatnonzero(predictor.named(row[None])[0])]
    if as_json:
        print(json.dumps({"image": str(path), "labels": own, "probabilities": dict(zip(predictor.classes, row.tolist(), strict=True))}))
    else:
        print(shown(str(path)), shown(", ".join(own)) or "no label", sep="\t")


def _listed(bad: list[tuple[str, str]], most: int = 20) -> Iterator[str]:
    if bad:
        yield f"warning: {len(bad)} cannot be read. {ways_out(reason for _, reason in bad)}"
    for _, reason in bad[:most]:
        yield f"  {shown(reason)}"
    if len(bad) > most:
        yield f"  and {len(bad) - most} more"


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


if __name__ == "__main__":
    sys.exit(main())
