"""`python -m study.export RESULTS/STUDY[:CELL] --format timm,onnx,torch_export --to FOLDER`: the network in formats that others read."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study.console.arguments import Parser, add_data, add_pick
from study.console.command import command
from study.console.progress import busy, load, warn
from study.datasets.spec import VAL
from study.errors import ConfigError, EnvironmentProblem, nearest
from study.records import dumps
from study.storage import outputs
from study.storage.folder import Folder
from study.tracking.ledger import placed
from study.use import FORMATS
from study.use.images import find_images, read_batches

if TYPE_CHECKING:
    from study.results import Results
    from study.use.predictor import Predictor
    from study.use.soup import Souped

BATCH = 32
ABOUT, CARD, READING = "preprocessing.json", "MODEL_CARD.md", "reading"


def parser() -> Parser:
    p = Parser(prog="python -m study.export", description=__doc__.split("\n")[0])
    add_pick(p)
    p.add_argument("--format", default="timm", help=f"of {', '.join(FORMATS)}, joined by commas (default: timm)")
    p.add_argument("--to", required=True, metavar="FOLDER", help="for the files, preprocessing.json and MODEL_CARD.md")
    p.add_argument("--check", nargs="+", metavar="IMAGES", help="files or folders to compare logits on (default: generated ones)")
    p.add_argument(
        "--soup", action="store_true", help="average the weights of all confirm runs. Refused where that scores less on validation"
    )
    add_data(p, "for --soup: folder that holds the data (or STUDY_DATA)")
    p.add_argument("--overwrite", action="store_true", help="replace files of the same names that lie in the folder, whatever they are")
    return p


@command(parser, "stopped. The same command writes it anew")
def main(args: argparse.Namespace) -> int:
    names = [n.strip() for n in args.format.split(",") if n.strip()]
    if not names:
        raise ConfigError(f"--format names none. Choose from {', '.join(FORMATS)}.")
    if not args.to:
        raise ConfigError("--to is empty. Name the folder for the files.")
    if unknown := [n for n in names if n not in FORMATS]:
        raise ConfigError(f"Unknown format {unknown[0]!r}. Choose from {nearest(unknown[0], list(FORMATS))}.")
    check_folder(Path(args.to), names, overwrite=args.overwrite)
    placed(args.study)
    if args.check:
        find_images([Path(p) for p in args.check])
    load("study.use.formats", "study.results")
    from study.results import open_place

    results, cell = open_place(args.study)
    export(results, cell, names, Path(args.to), args.check, soup_from=(args.data,) if args.soup else None, overwrite=args.overwrite)
    return 0


def export(
    results: "Results",
    cell: str,
    names: Sequence[str],
    to: Path,
    check: Sequence[str] | None = None,
    soup_from: tuple[str | None] | None = None,
    overwrite: bool = False,
) -> None:
    """Write each format, compare its logits on `check`, describe the preprocessing, and add the model card.

    Raises EnvironmentProblem where a file computes something else than the network.
    """
    from study.use import formats

    compared = soup_from is not None  # a soup is of confirm runs
    pick = results.pick(cell, compared=compared)
    predictor, told = results.predictor(cell, compared=compared), ""
    print(f"{pick.of}: {pick.named}, trial {pick.trial}, {pick.scores}")
    if results.unfinished:
        warn(results.unfinished)
    if soup_from is not None:
        made = _soup(results, cell, soup_from[0])
        predictor, told = made.predictor, made.text
        print(told)
    check_folder(to, names, overwrite=overwrite)
    folder = Folder(str(to.absolute()))
    said: set[str] = set()
    card = results.model_card(cell, compared=compared)
    if told:
        card += f"\n## Not the network scored above\n\n{told}\n"
    sets = {} if told else results.sets_facts(cell, compared=compared)  # of a soup no predictions are kept
    about = (dumps(formats.describe(predictor, predictor.temperature, sets), indent=1) + "\n").encode()
    texts = {ABOUT: about, CARD: card.encode("utf-8", "backslashreplace"), **formats.reading()}
    if not overwrite:
        check_texts(folder, texts)
    for page in (ABOUT, *formats.reading()):
        folder.write(page, texts[page])
    for name in names:
        with busy(f"writing {FORMATS[name]}", soon=True, stream=sys.stderr):
            path, run = formats.write(name, predictor, Path(folder.root))
        found = formats.compare(name, path, run, predictor, _images(predictor, check, said))
        on = f"{found.images} {'of your' if check else 'generated'} images"
        line = f"{name}: {path}, logits on {on} differ by at most {found.difference:.2g} (tolerance {found.tolerance:.2g})"
        if not found.close:
            raise EnvironmentProblem(f"{line}: this file is not the network. Do not use it, and report the versions of torch and {name}.")
        print(line)
    folder.write(CARD, texts[CARD])
    print(f"preprocessing: {folder.path('preprocessing.json')}\nmodel card: {folder.path('MODEL_CARD.md')}")


def check_folder(to: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Raise ConfigError where a file of the export would replace one that no export has written; an export always has a description."""
    files = [ABOUT, CARD, READING, *(FORMATS[name] for name in names)]
    for file in files:
        path = to / file
        if file in (READING, FORMATS["timm"]):
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path} is a file where an export has a folder. Choose another folder with --to.")
            path = path / "config.json"
        outputs.check_place(path, "--to")
    there = [file for file in files if (to / file).exists()]
    if there and ABOUT not in there and not overwrite:
        raise ConfigError(
            f"{to / there[0]} is there already, and no {ABOUT} beside it says that it was exported. Choose another folder with --to, "
            "or replace it with --overwrite."
        )


def check_texts(folder: Folder, texts: Mapping[str, bytes]) -> None:
    """Raise ConfigError where a text of an export exists with other words: people edit cards, and other networks have other
    descriptions."""
    for file, text in texts.items():
        if folder.read(file) in (None, text):
            continue
        if file == ABOUT:
            raise ConfigError(f"{folder.location} holds what was exported of another network. Choose another folder with --to.")
        raise ConfigError(
            f"{folder.path(file)} is there already with other words than this export's. Move it away, choose another folder with --to, "
            "or replace it with --overwrite."
        )


def _images(predictor: "Predictor", check: Sequence[str] | None, said: set[str]) -> Iterator[np.ndarray]:
    """Yield uint8 [N, S, S, C], a batch at a time; unreadable images are reported in `said` once. Raises ConfigError where none is
    readable."""
    from study.use import formats

    if not check:
        yield formats.noise(predictor)
        return
    any_read = False
    for readable, problems in read_batches(find_images([Path(p) for p in check]).images, predictor.read, BATCH):
        for _, reason in problems:
            if reason not in said:
                print(f"warning: {reason}", file=sys.stderr)
                said.add(reason)
        if readable:
            any_read = True
            yield np.stack([image for _, image in readable])
    if not any_read:
        raise ConfigError(f"not one image of {', '.join(check)} can be read. Name others with --check.")


def _soup(results: "Results", cell: str, data: str | None) -> "Souped":
    """Average the pick's confirm runs, judged on the validation images. Raises ConfigError where the average is worse than they are."""
    from study.conduct.workplace import Workplace
    from study.use.predictor import Predictor
    from study.use.soup import soup

    pick, ledger = results.pick(cell, compared=True), results.frames.ledger
    if not pick.confirmed or len(pick.trials) < 2:
        raise ConfigError(f"{pick.cell.id} has {len(pick.trials)} network(s). A soup needs two confirm runs: leave --soup out.")
    ask = ledger.ask(pick.trial)
    assert ask is not None, "it was picked"
    table, pixels = Workplace.of(ledger, data).images(ask)
    val = np.flatnonzero(table.split == VAL)
    members = [Predictor.from_folder(ledger.trial_folder(trial)) for trial in pick.trials]
    return soup(members, pixels, val, table.labels[val])


if __name__ == "__main__":
    sys.exit(main())
