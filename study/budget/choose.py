"""The command `python -m study.sweep mine`: look at the images, measure the machine, choose a study that ends in time, and say why."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import timm
from rich.table import Table

from study.budget.bought import Choice, choose, with_about
from study.budget.ladder import HOURS, Ladder, sizes
from study.budget.leftover import Leftover
from study.budget.machine import Speeds, conditions, usable_cores
from study.budget.measured import Bench, look
from study.budget.price import line_size
from study.budget.reasons import bought, reasons
from study.console.progress import busy
from study.console.wide import make_console
from study.errors import ConfigError
from study.networks.image_sizes import full_size
from study.networks.weights import names_in, timm_name
from study.question.as_python import as_source
from study.question.cell import grid
from study.question.studies import narrow
from study.question.study_config import Study
from study.storage.options import Options
from study.storage.places import find_places
from study.tracking.ledger import Ledger

BACKBONE = "efficientnet_lite0"  # its weights are installed
YEAR = 24 * 365
SECOND_PX = 128  # measured besides the smallest size: others go by pixels
MEASURED_H = 1.0  # from so many hours on, the sizes chosen are measured themselves: less would be missed


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A study chosen for a user's images."""

    choice: Choice
    rows: list[tuple[str, str, str]]  # what, chosen, why
    study: Study
    leftover: Leftover  # what the hours may still buy once its search has ended

    def print(self) -> None:
        console = make_console(140)
        table = Table("", "chosen", "why", title=f"{self.study.name}: {', '.join(dict.fromkeys(c.dataset for c in self.study.cells))}")
        for row in self.rows:
            table.add_row(*row)
        console.print(table, highlight=False)
        table = Table("what hours buy, in this order", "bought", "with all above it")
        for row in bought(self.choice):
            table.add_row(*row)
        console.print(table, highlight=False)

    def check_file(self, path: Path) -> None:
        """Raise ConfigError where anything but this study is there. The file is read and not run, since it may be the user's own."""
        if path.exists() and (path.is_dir() or _code(path.read_text("utf-8", "replace")) != _code(self._source(path))):
            raise ConfigError(
                f"{path} is there already and holds another study, or none. Run it (python -m study.sweep {path}), move it away, or "
                f"choose another --name than {self.study.name}."
            )

    def write(self, path: Path) -> None:
        """Write the study to a file that can be edited. Raises ConfigError where another study is there."""
        self.check_file(path)
        if path.exists():
            return
        path.write_text(self._source(path), encoding="utf-8")
        print(
            f"{path.resolve()} holds this study. To change max_epochs, image_size or anything else, edit it and run: python -m "
            f"study.sweep {path}"
        )

    def _source(self, path: Path) -> str:
        why = "\n".join(f"    {what}: {value} ({why})" for what, value, why in self.rows)
        return as_source(self.study, f"{self.study.about}\n\nTo edit, and to run: python -m study.sweep {path}\n\n{why}")


def _code(source: str) -> str:
    """Return what a Python file does, whatever its docstring and its layout are; an empty text for one that is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    return ast.dump(ast.Module(tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body, []))


def begun(name: str, datasets: Sequence[str] | None, options: Options) -> Study | None:
    """Return the study of that name as it was chosen when it first ran, so that the same command resumes it.

    Raises ConfigError for other images.
    """
    ledger = Ledger(find_places(options.results).folder, name)
    study = ledger.study()
    if study is None:
        return None
    if datasets is not None and set(_placed(datasets)) != {c.data.text for c in study.cells}:
        raise ConfigError(f"{ledger.folder.location} is a study of other images. Choose another --name, or leave --datasets out.")
    print(f"{ledger.folder.location} goes on as it was chosen when it began. Another --name chooses anew")
    return study


def fit(
    datasets: Sequence[str],
    hours: float | None,
    options: Options,
    *,
    name: str,
    backbones: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    settle: Callable[[Study], Study] = lambda study: study,
    given: frozenset[str] = frozenset(),
    check: Callable[[Study], object] = lambda study: None,
) -> Fitted:
    """Choose a study. `settle` sets what the user gave, `given` names it; `check` raises for a study that cannot be run.

    Raises ConfigError where no useful study fits, DataError for images, and what `check` raises, if it can before anything is measured.
    """
    budget = HOURS if hours is None else hours
    if not 0 < budget < YEAR:
        raise ConfigError(f"--hours must be above 0 and below {YEAR:,} (a year), not {hours!r}.")
    places = find_places(options.results, options.data, options.weights)
    names, why_backbone = _backbones(backbones, places.weights)
    looked = [look(d, places.data_root) for d in _placed(datasets)]
    pictures = tuple(one.pictures for one in looked)
    asked = tuple(strategies or ())
    ladder = Ladder(pictures=pictures, backbones=tuple(names), sizes=(SECOND_PX,), strategies=asked, name=name, settle=settle)
    _, first = ladder.base()
    if first.protocol.fit != "square":
        ladder = replace(ladder, pictures=tuple(replace(p, side=p.longer) for p in pictures))
    where = conditions(options.local, options.cpus_per_worker, first.protocol.workers, options.concurrent)
    speeds, own = Speeds(places, where), min(full_size(timm_name(n)) for n in names)
    ladder = _as_measured(ladder, speeds, own, first.protocol.precision if "precision" in given else "")
    check(ladder.base()[1])
    bench = Bench(speeds, ladder, first.protocol, looked, own)
    machine = bench.machine({ladder.sizes[0], min(ladder.sizes, key=lambda s: abs(s - SECOND_PX))})
    try:
        choice = choose(ladder, machine, budget)
        while budget >= MEASURED_H and (missing := _sizes_of(choice.study, own) - bench.sizes):
            machine = bench.machine([missing.pop()])
            choice = choose(ladder, machine, budget)
    except ConfigError as error:
        raise ConfigError(f"{error}{_unused(backbones, names, places.weights)}") from None
    check(choice.study)
    rows = reasons(choice, ladder.pictures, machine, given)
    at = [what for what, _, _ in rows].index("strategies")
    rows.insert(at, ("backbone", ", ".join(names), why_backbone))
    left = Leftover(choice=choice, pictures=ladder.pictures, machine=machine, given=given)
    return Fitted(choice=choice, rows=rows, study=with_about(choice.study, choice, where.at_once), leftover=left)


def _as_measured(ladder: Ladder, speeds: Speeds, own: int, precision: str) -> Ladder:
    """Return the ladder with the sizes that every network takes, and with the faster precision where none was given."""
    where = speeds.where
    slow = "" if speeds.quiet else f" (it is busy: load {speeds.now:.0f} on {usable_cores()} cores, so this takes longer)"
    with busy(f"measuring this machine{slow}: trials at once {where.at_once}, threads of each {where.threads}", announced=True):
        taken = _taken(sizes(own), ladder.backbones, speeds)
        return replace(ladder, sizes=taken, precision=precision or speeds.precision(ladder.backbones, min(SECOND_PX, max(taken))))


def _sizes_of(study: Study, own: int) -> set[int]:
    """Return the sizes at which images go through the network in this study."""
    confirmed = study.confirm_size or study.protocol.image_size
    return {study.protocol.image_size, confirmed} | {line_size(own, confirmed)}


def _unused(given: Sequence[str] | None, names: Sequence[str], weights: str | None) -> str:
    """Return a note for an error about a folder of weights that was not used."""
    found = names_in(Path(weights)) if weights and not given else []
    return f" This is for {names[0]}. {weights} holds {', '.join(found)}: name one with --backbones." if len(found) > 1 else ""


def _placed(datasets: Sequence[str]) -> list[str]:
    """Return the data sets as `narrow` names them: folders by their full path."""
    study = narrow(Study(name="placed", cells=grid(list(datasets), ["any"], ["full"])))
    return [c.data.text for c in study.cells]


def _backbones(given: Sequence[str] | None, weights: str | None) -> tuple[list[str], str]:
    """Return the networks, and the reason."""
    if given:
        return list(given), "given"
    found = names_in(Path(weights)) if weights else []
    if len(found) == 1:
        return found, f"the one network whose weights lie in {weights}"
    also = f"; {weights} holds {', '.join(found)}: name one with --backbones" if found else ""
    return [BACKBONE], f"its weights are installed{also}"


def _taken(tried: Sequence[int], names: Sequence[str], speeds: Speeds) -> tuple[int, ...]:
    """Return the sizes that every network takes; networks built for one size are asked. Where they take none of them, their own size."""
    fixed = [n for n in names if (cfg := timm.get_pretrained_cfg(timm_name(n))) is not None and cfg.fixed_input_size]
    taken = tuple(s for s in tried if all(speeds.takes(n, s) for n in fixed))
    return taken or (min(full_size(timm_name(n)) for n in names),)
