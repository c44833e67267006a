"""The end of all commands: in every case with one line at most, and a code of study.errors.

The cases are a wrong argument, an error that the user can mend, an interrupt, a reader that has closed the pipe, a full disk under
stdout.
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
from typing import Any, Protocol, TextIO, cast

from study import early
from study.console.arguments import Parser
from study.console.text import tell
from study.errors import EnvironmentProblem, StudyError

READER_GONE = 128 + signal.SIGPIPE
Body = Callable[[argparse.Namespace], int]


class Main(Protocol):
    """A main function: it runs a command with these arguments, else with the shell's, and returns its exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(parser: Callable[[], Parser], stopped: str) -> Callable[[Body], Main]:
    """Return a decorator that makes a command's main function from its body, which gets the arguments as `parser` reads them, and
    `words`.

    `words` are the arguments as they were typed. A StudyError ends the command with one line, and with a traceback where it knows --debug
    and was given it.
    """

    def wrapped(body: Body) -> Main:
        @quiet(stopped)
        @functools.wraps(body)
        def main(argv: Sequence[str] | None = None) -> int:
            words = list(sys.argv[1:] if argv is None else argv)
            args = parser().parse_args(words)
            args.words = words
            try:
                return body(args)
            except StudyError as error:
                if getattr(args, "debug", False):
                    raise
                return tell(error)

        return main

    return wrapped


def quiet(stopped: str) -> Callable[[Main], Main]:
    """Wrap a main function so that it ends quietly. `stopped`: the line printed where it is interrupted; empty: none."""

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
    """Return the exit code for a command whose folder was removed, or replaced, under its shell, where no path has a meaning; else 0."""
    try:
        os.getcwd()
    except FileNotFoundError:
        print(
            "error: the folder that this shell is in was removed. Go to another one (cd), and run the same command there.", file=sys.stderr
        )
        return EnvironmentProblem.exit_code
    return 0


class OutputGone(SystemExit):
    """An end of the process because no output can be written any more. It is no Exception: it ends a thread silently, and no trial
    fails."""

    def __init__(self, error: Exception) -> None:
        self.status = READER_GONE if isinstance(error, BrokenPipeError) else EnvironmentProblem.exit_code
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "free some room, or write elsewhere" if full else "give it another"
        said = getattr(error, "strerror", None) or str(error)
        self.reason = "" if self.status == READER_GONE else f"stdout takes no more ({said}); {way_out}, then run the same command again."
        super().__init__(self.status)


class _Out:
    """Stdout whose errors are OutputGone, from the first on. Characters that the terminal's encoding lacks are written as escapes."""

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
    """Stderr whose errors are ignored, since there is no other place to report them."""

    def _tried(self, act: Callable[..., Any], *arguments: Any) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return act(*arguments)
        return 0


def _leave(stream: TextIO) -> None:
    """Send the rest of a stream's buffer nowhere, or Python would try to write it again at its end and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
