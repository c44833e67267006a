"""The study that a sweep's command line asks for: by name, from a file or by its folder, or `mine`, chosen now for a user's images."""

import argparse
import functools
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import early
from study.budget.ladder import DELIVERY, HOURS
from study.console.arguments import Parser
from study.console.progress import busy
from study.console.typed import typed
from study.errors import ConfigError
from study.question.studies import AS_OPTIONS, MINE, STUDIES, find_study, narrow, settings
from study.question.study_config import Study
from study.storage.folder import Folder
from study.storage.options import Options
from study.storage.places import find_places
from study.tracking.ledger import find

if TYPE_CHECKING:
    from study.budget.leftover import Leftover


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A study, how it is run, and what else its hours may buy."""

    study: Study
    options: Options
    leftover: "Leftover | None" = None


def asked(args: argparse.Namespace, parser: Parser, argv: Sequence[str]) -> Asked | None:
    """Return the request that `parser` read from `argv` as `args`; None where a dry run of `mine` has printed its plan.

    Raises ConfigError for options that contradict each other.
    """
    own = given_fields(args)
    began = {"command": f"python -m study.sweep {shlex.join(argv)}", "arguments": tuple(map(tuple, typed(parser, argv)))}
    return _mine(args, own, began) if args.study == MINE else _named(args, own, began)


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the study and its protocol that the command line sets. Raises ConfigError for one that is set twice."""
    own = {name: value for name in AS_OPTIONS if (value := getattr(args, name)) is not None}
    told = settings(args.set)
    if twice := sorted(own.keys() & told.keys()):
        raise ConfigError(f"{twice[0]} is given twice, as an option and with --set. Keep one.")
    return own | told


def _named(args: argparse.Namespace, own: dict[str, Any], began: dict[str, Any]) -> Asked:
    found, results = _found(args.study, args.results)
    options = _options(args, **began, results=results)
    if args.hours is not None:
        raise ConfigError(
            f"--hours chooses a study for your own images: mine, not {args.study}. Of others, set --trials or --set max_epochs=N."
        )
    study = narrow(found, datasets=args.datasets, strategies=args.strategies, backbones=args.backbones, **own)
    return Asked(study=study, options=options)


def _mine(args: argparse.Namespace, own: dict[str, Any], began: dict[str, Any]) -> Asked | None:
    """Return the study `mine`, chosen now, or as it was when it began; None where a dry run has said what it would be."""
    hours = args.hours or HOURS
    options = _options(args, **began, ends_at=time.time() + 3600 * hours, aside=DELIVERY * hours)
    with busy("loading PyTorch", soon=True), early.at_once():
        from study.budget import choose
        from study.conduct.checks import check_study
        from study.conduct.workplace import Workplace

    def check(study: Study) -> None:
        with busy("checking networks and images"):
            check_study(Workplace.at(study, options), options, say=lambda form: None)

    name = own.pop("name", MINE)
    known = choose.begun(name, args.datasets, options)
    if known is not None:
        return Asked(study=narrow(known, strategies=args.strategies, backbones=args.backbones, **own), options=options)
    if not args.datasets:
        raise ConfigError("mine needs your images: --datasets folder:PATH.")
    fitted = choose.fit(
        args.datasets,
        args.hours,
        options,
        name=name,
        backbones=args.backbones,
        strategies=args.strategies,
        settle=functools.partial(narrow, **own),
        given=frozenset(own) | ({"strategies"} if args.strategies else set()),
        check=check,
    )
    fitted.print()
    path = Path("my_study.py" if name == MINE else f"{name}.py")
    fitted.check_file(path)
    if args.dry_run:
        return None
    fitted.write(path)
    return Asked(study=fitted.study, options=options, leftover=fitted.leftover)


def _options(args: argparse.Namespace, **own: Any) -> Options:
    """Return the options of the command line on how a study is run; `own` goes before it."""
    told = {f.name: value for f in fields(Options) if (value := getattr(args, f.name, None)) is not None}
    return Options(**told | own)


def _found(name: str, results: str | None) -> tuple[Study, str]:
    """Return the study and the place of its results: by name, from a file, or, by its own folder, as it was begun."""
    if not _is_folder(name):
        return find_study(name), results or Options.results
    ledger = find(name)
    begun, parent = ledger.study(), ledger.folder.location.rpartition("/")[0]
    assert begun is not None, "its file is here"
    if results is not None and find_places(results).folder != find_places(parent).folder:
        raise ConfigError(f"{ledger.folder.location} goes on where it lies, not under {results}. Leave --results out.")
    return begun, parent


def _is_folder(name: str) -> bool:
    """Return True for a study's folder, or a text that can only mean one: neither the name of a study, nor a file of studies."""
    if Folder(name).exists("study.json"):
        return True
    return name not in (*STUDIES, MINE) and not name.partition(":")[0].endswith(".py") and ("/" in name or Folder(name).exists())
