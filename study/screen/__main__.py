"""`python -m study.screen --datasets table:labels.csv --backbones A B C`: which pretrained network suits these images, by a quick probe.

It ranks linear probes on frozen features, not tuned networks: what it says is which ones to tune first.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from study.bounds import check_options
from study.console.arguments import Parser, add_places
from study.console.command import command
from study.console.progress import busy, load
from study.console.text import joined, shown
from study.console.wide import make_console
from study.datasets import open_dataset
from study.datasets.spec import ImageTable
from study.errors import ConfigError, StudyError
from study.question.naming import DataName
from study.records import dumps
from study.storage.places import Places, find_places

if TYPE_CHECKING:
    from study.screen.probe import Probed, Task
    from study.screen.ranked import Ranked

WHAT = (
    "This ranks linear probes on frozen features, not tuned networks: fine-tuning may turn the order round, above all among networks that "
    "may be first. The test images were not looked at."
)


LINE = "; the line to beat is left out for this network"
"""The end of a study's sentence about a network that has no linear head to solve for."""
WIDTH = 120  # letters of the table, in a log too


def parser() -> Parser:
    """Return the parser of the command line."""
    p = Parser(prog="python -m study.screen", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--datasets", nargs="+", required=True, metavar="DATASET", help="names, folder:PATH, table:PATH, or NAME@SPLITS")
    p.add_argument("--backbones", nargs="+", metavar="NETWORK", help="any timm models (default: all whose weights are on this machine)")
    p.add_argument("--image-size", type=int, help="pixels, square (default: each network's own size)")
    add_places(p)
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return p


@command(parser, "stopped. The same command goes on with what is kept")
def main(args: argparse.Namespace) -> int:
    check_options(image_size=args.image_size)
    if twice := next((d for d in args.datasets if args.datasets.count(d) > 1), None):
        raise ConfigError(f"--datasets names {twice} twice. Once is enough.")
    places = find_places("results", data=args.data, weights=args.weights)
    tables = [_opened(d, places) for d in args.datasets]
    load("study.screen.probe", "study.screen.ranked", "study.screen.at_hand")
    names = _networks(args.backbones, places)
    code, out = 0, []
    for table, splits in tables:
        task, found, left = _screen(table, splits, names, args.image_size, places)
        if left and (args.backbones or not found):
            code = ConfigError.exit_code
        if args.json:
            from study.screen.ranked import values

            out.append(values(task, found, left))
        else:
            _print(task, found, left)
    if args.json:
        print(dumps({"format": 1, "of": "screen", "metric": "macro_f1", "what": WHAT, "datasets": out}, indent=1))
    return code


def _opened(name: str, places: Places) -> tuple[ImageTable, str]:
    data = DataName.parse(name).absolute()
    with busy(f"reading {shown(data.short)}", soon=True, stream=sys.stderr):
        return open_dataset(data.dataset, splits=data.splits, root=places.data_root), data.splits


def _networks(given: Sequence[str] | None, places: Places) -> list[str]:
    """Return the named networks, else those at hand. A wrong name is refused before anything is computed. Raises ConfigError."""
    from study.networks.weights import timm_name
    from study.screen.at_hand import networks_at_hand

    if places.weights and not os.path.isdir(places.weights):
        raise ConfigError(f"Weights folder {places.weights} does not exist. Make it, or leave --weights / STUDY_WEIGHTS out.")
    if given is None:
        return networks_at_hand(places.weights)
    full = [timm_name(name) for name in given]
    if twice := next((n for n, f in zip(given, full, strict=True) if full.count(f) > 1), None):
        raise ConfigError(f"--backbones names {twice} twice. Once is enough.")
    return list(given)


def _screen(
    table: ImageTable, splits: str, names: Sequence[str], image_size: int | None, places: Places
) -> "tuple[Task, list[Ranked], dict[str, str]]":
    """Return (the images, the networks in order, why others are left out). Raises StudyError for faults of the images."""
    from study.screen.probe import open_task, probe
    from study.screen.ranked import rank

    where = shown(DataName.parse(table.name).short)
    with busy(f"decoding {where}", soon=True, stream=sys.stderr):
        task = open_task(table, names[0], splits, image_size, places)
    probes: list[Probed] = []
    left: dict[str, str] = {}
    for k, name in enumerate(names, 1):
        with _told(name, left), busy(f"{where}: {name}, {k} of {len(names)}", soon=True, stream=sys.stderr):
            probes.append(probe(name, task, image_size, places))
    return task, rank(task, probes), left


@contextlib.contextmanager
def _told(name: str, left: dict[str, str]) -> Iterator[None]:
    """Leave out, by name, a network that cannot be probed, so that the others are ranked."""
    try:
        yield
    except StudyError as error:
        left[name] = str(error).removeprefix(f"{name}: ").replace(LINE, "")
    except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory error is a RuntimeError
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        left[name] = "it does not fit into the memory. Name fewer pixels with --image-size."


def _print(task: "Task", found: "list[Ranked]", left: dict[str, str]) -> None:
    about = f"{len(task.labels):,} training and validation images of {len(task.classes)} classes, {len(task.folds)} folds{task.said}"
    print(shown(f"{DataName.parse(task.dataset).short}: {about}"))
    if found:
        console = make_console(120, markup=False, emoji=False, highlight=False, soft_wrap=True)
        console.width = max(console.width, WIDTH)
        console.print(_table(found))
        best = [r.probed.network for r in found if r.may_be_best]
        if len(best) > 1:
            print(f"Any of these may be first: {joined(best)}.")
        elif len(found) > 1:
            print(f"{best[0]} is first, and told from all others.")
        for r in found:
            print(shown(f"{r.probed.network}: {r.probed.licence}"))
    for name, reason in left.items():
        print(f"left out: {shown(name)}: {shown(reason)}", file=sys.stderr)
    if found:
        print(WHAT)


def _table(found: "list[Ranked]") -> Table:
    table = Table("", "network", "macro-F1, points", "behind the first", "pixels", "seconds", "parameters", "MB")
    for r in found:
        p = r.probed
        behind = "" if r.rank == 1 else f"{100 * r.behind:.1f} [{100 * r.behind_low:.1f}, {100 * r.behind_high:.1f}]"
        table.add_row(
            str(r.rank),
            p.network,
            f"{100 * r.mean:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]",
            behind,
            str(p.image_size),
            f"{p.pass_seconds:.0f} + {p.probe_seconds:.0f}",
            f"{p.parameters / 1e6:.1f} M",
            f"{p.megabytes:.0f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
