"""What all commands have in common: how their arguments are read, and how they end, whatever happens to them.

A wrong argument, an interrupt, a reader that has seen enough, a full disk under stdout: one line at most, and a code of study.errors.
"""

import argparse
import contextlib
import errno
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol, TextIO, cast

from study import early, failpoints
from study.console.text import shown
from study.errors import ConfigError, EnvironmentProblem

READER_GONE = 128 + signal.SIGPIPE


class Main(Protocol):
    """Runs a command with these arguments, else with the shell's; returns its exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


class Parser(argparse.ArgumentParser):
    """Says what is wrong first, then in one line what it takes. Nothing is asked of a command whose environment would be passed over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", int, whole)
        self.register("type", float, number)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if problem := failpoints.wrong():
            self.error(problem)
        for word in sys.argv[1:] if args is None else args:
            if "\0" in str(word):  # only Python can pass one: no shell does
                self.error(f"{word} holds a NUL, which no file's name and no setting can; leave it out.")
        known, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(known, action.dest, None)
            if "" in (value if isinstance(value, list) else [value]) and value != action.default:
                self.error(
                    f"{'/'.join(action.option_strings) or action.dest.upper()} is empty (a variable without a value?); give one, or leave it out."
                )
        return known, rest

    def error(self, message: str) -> NoReturn:
        names = " ".join(_shown(a) for a in self._actions if not a.option_strings)
        print(f"error: {shown(message)}\nusage: {self.prog} {names} [options]; --help lists them", file=sys.stderr)
        sys.exit(2)


def whole(text: str, rule: str = "a whole number") -> int:
    """Of an option. Raises ArgumentTypeError, which says the rule and not how it is checked."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}.") from None


def number(text: str, rule: str = "a number") -> float:
    """As `whole`."""
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


def assigned(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, as `--set` has them, by name. Raises ConfigError for what is none, and for a name that is given twice: which of the two is
    meant cannot be told."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} is not NAME=VALUE, e.g. image_size=224.")
        if name in found:
            raise ConfigError(f"--set {name} is given twice; keep one.")
        found[name] = text
    return found


def command(stopped: str) -> Callable[[Main], Main]:
    """A main function that ends quietly. `stopped`: the line said where it is interrupted; empty: none."""

    def wrapped(main: Main) -> Main:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            out, err = _Out(sys.stdout), _Err(sys.stderr)
            with early.running(), contextlib.redirect_stdout(cast(TextIO, out)), contextlib.redirect_stderr(cast(TextIO, err)):
                try:
                    try:
                        return _folder_gone() or main(argv)
                    finally:
                        out.flush()
                except OutputGone as ended:
                    if ended.reason:
                        print(f"error: {ended.reason}", file=sys.stderr)
                    return ended.status
                except KeyboardInterrupt:
                    if stopped:
                        print(stopped, file=sys.stderr)
                    return early.CODE

        return run

    return wrapped


def _folder_gone() -> int:
    """Whether the folder that a command runs in was removed, or replaced, under its shell: no path means anything there. Its exit code, else 0."""
    try:
        os.getcwd()
    except FileNotFoundError:
        print(
            "error: the folder that this shell is in was removed; go to another one (cd), and run the same command there.", file=sys.stderr
        )
        return EnvironmentProblem.exit_code
    return 0


class OutputGone(SystemExit):
    """Nobody can be told anything any more. No exception of what was being done: it ends a thread in silence, and no trial."""

    def __init__(self, error: Exception) -> None:
        self.status = READER_GONE if isinstance(error, BrokenPipeError) else EnvironmentProblem.exit_code
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "free some room, or write elsewhere" if full else "give it another"
        said = getattr(error, "strerror", None) or str(error)
        self.reason = "" if self.status == READER_GONE else f"stdout takes no more ({said}); {way_out}, then run the same command again."
        super().__init__(self.status)


class _Out:
    """Stdout, whose refusals are OutputGone, from the first on. What the terminal's encoding lacks stands there as an escape."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone: Exception | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        return int(self._tried(self._stream.write, text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, act: Callable[..., Any], *arguments: Any) -> Any:
        if self._gone is None:
            try:
                return act(*arguments)
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._gone = error
                _leave(self._stream)
        raise OutputGone(self._gone) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Err(_Out):
    """Stderr: where it is gone there is nobody to tell."""

    def _tried(self, act: Callable[..., Any], *arguments: Any) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return act(*arguments)
        return 0


def _leave(stream: TextIO) -> None:
    """What is left in its buffer goes nowhere, or Python would try it again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
