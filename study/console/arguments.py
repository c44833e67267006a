"""The arguments of all commands: how they are read and refused, and those that several take, which are called and explained alike."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from study import failpoints
from study.console.text import shown
from study.errors import ConfigError

EMPTY = "is empty (a variable without a value?). Give one, or leave it out."


class Parser(argparse.ArgumentParser):
    """A parser that says first what is wrong, then in one line what the command takes. It refuses empty values of environment
    variables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", int, whole)
        self.register("type", float, number)
        self.register("type", Path, path)
        self._words: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if problem := failpoints.wrong():
            self.error(problem)
        self._words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        for word in self._words:
            if "\0" in word:  # only Python can pass one: no shell does
                self.error(f"{word} holds a NUL, which no file's name and no setting can. Leave it out.")
        known, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(known, action.dest, None)
            if "" in (value if isinstance(value, list) else [value]) and value != action.default:
                self.error(f"{'/'.join(action.option_strings) or action.dest.upper()} {EMPTY}")
        return known, rest

    def error(self, message: str) -> NoReturn:
        names = " ".join(_shown(a) for a in self._actions if not a.option_strings)
        if message.startswith("the following arguments are required") and (taken := self._unknown_options()):
            message += f". {taken[0]} was read as an option: a file whose name begins with - is given as ./{taken[0]}"
        print(f"error: {shown(message)}\nusage: {self.prog} {names} [options]; --help lists them", file=sys.stderr)
        sys.exit(2)

    def _unknown_options(self) -> list[str]:
        """Return words that begin with a dash and are the beginning of no option."""
        words = self._words[: self._words.index("--")] if "--" in self._words else self._words
        known = [name for action in self._actions for name in action.option_strings]
        return [w for w in words if w.startswith("-") and w != "-" and not any(n.startswith(w.partition("=")[0]) for n in known)]


def path(text: str) -> Path:
    """Return an option's path. Raises ArgumentTypeError for an empty one, which `Path` would take for the working folder."""
    if not text:
        raise argparse.ArgumentTypeError(EMPTY)
    return Path(text)


def whole(text: str, rule: str = "a whole number") -> int:
    """Return an option's whole number. Raises ArgumentTypeError, which names the rule and not the check."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}.") from None


def number(text: str, rule: str = "a number") -> float:
    """Return an option's number. Raises ArgumentTypeError as `whole` does."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}.") from None


def _shown(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest).upper()
    if isinstance(action.choices, dict):
        name = "|".join(action.choices)
    many = action.nargs in ("+", "*")
    return f"[{name}{' ...' if many else ''}]" if action.nargs in ("?", "*") else f"{name}{' ...' if many else ''}"


# ---- what several commands take ------------------------------------------------------------------------------


def add_data(parser: argparse.ArgumentParser, about: str = "folder that holds fer2013/, deepweeds/ (or STUDY_DATA)") -> None:
    """Add the option for the folder of data sets; its default is the environment's."""
    parser.add_argument("--data", default=os.environ.get("STUDY_DATA"), help=about)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options for the folders of data sets and pretrained weights."""
    add_data(parser)
    parser.add_argument("--weights", default=os.environ.get("STUDY_WEIGHTS"), help="folder of pretrained weights (or STUDY_WEIGHTS)")


def add_settings(parser: argparse.ArgumentParser, about: str) -> None:
    """Add the option for fields by name, which `assigned` reads."""
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help=about)


def add_pick(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a study and one of its networks."""
    parser.add_argument(
        "study",
        help="RESULTS/STUDY or RESULTS/STUDY:CELL (a data set, a strategy, or both: mini_weeds/partial; 'compared' for the one of "
        "the report)",
    )


def add_overwrite(parser: argparse.ArgumentParser, options: str) -> None:
    """Add the option to replace existing files; `options`: those that name an output file."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace what lies under {options}, whatever it is")


def assigned(pairs: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE, as `--set` has them, by name.

    Raises ConfigError for another form, and for a name that is given twice, since the meaning is not clear.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} is not NAME=VALUE, e.g. image_size=224.")
        if name in found:
            raise ConfigError(f"--set {name} is given twice. Keep one.")
        found[name] = text
    return found
