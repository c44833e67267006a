"""Signals and streams before anything is loaded, where `python -m` or `finetune-study` runs a command of ours.

Ctrl-C ends it without a traceback, and the number of a closed stream is not given to another file. A program that imports us is left
unchanged.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

OURS = ("study", "analysis", "cluster")
SCRIPT = "finetune-study"  # what pyproject.toml calls study/__main__.py
CODE = 128 + signal.SIGINT
Handler = Callable[[int, FrameType | None], object]


def begin() -> None:
    """Prepare the process before our packages import anything else."""
    module = sys.argv[:1] == ["-m"]
    if _is_command() and (module or _is_script()):
        open_streams()
        if module:
            refuse_what_is_no_command()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as under nohup
            signal.signal(signal.SIGINT, _end)


def _is_script() -> bool:
    return Path(sys.argv[0] if sys.argv else "").stem == SCRIPT


def _is_command() -> bool:
    line = sys.orig_argv
    return _is_script() or any(a == "-m" and b.partition(".")[0] in OURS for a, b in zip(line, line[1:], strict=False))


def refuse_what_is_no_command() -> None:
    """End `python -m` with an error for a module that is no command: it would load definitions and end with 0 without a message."""
    line, root = sys.orig_argv, Path(__file__).parent.parent
    module = next(b for a, b in zip(line, line[1:], strict=False) if a == "-m")
    file = root.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file() or _runs(file):
        return  # what is not there is Python's to say
    package = module.partition(".")[0]
    files = {f.stem for f in (root / package).glob("*.py") if _runs(f)} - {"__main__"}
    own = sorted(files | {f.parent.name for f in (root / package).glob("*/__main__.py")})
    print(
        f"error: {module} is no command. Of {package}, these are: {', '.join(own)}. python -m {package}.{own[-1]} --help", file=sys.stderr
    )
    sys.exit(2)


def _runs(file: Path) -> bool:
    return "\nif __name__ == " in file.read_text("utf-8")


def open_streams() -> None:
    """Open missing stdin, stdout and stderr on the null device.

    Their numbers would go to the next files that are opened, and writers to 1 or 2 (a C library, a child) would write into those.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:  # print(file=None) would write to stdout
        sys.stderr = open(2, "w", closefd=False)


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Raise KeyboardInterrupt for an interrupt while a command runs, so that open files are closed; afterwards end silently."""
    with _answered(_end, by=signal.default_int_handler, then=_silently):
        yield


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """End the process at once for an interrupt inside the block, where libraries are imported or a server is sent something only once.

    Such code may not bear an exception in its middle, or takes it for the server's.
    """
    with _answered(signal.default_int_handler if _is_command() else None, by=_end, then=signal.default_int_handler):
        yield


@contextlib.contextmanager
def _answered(now: Handler | None, *, by: Handler, then: Handler) -> Iterator[None]:
    """Answer interrupts `by` another handler inside the block, and `then` by a third; unchanged where another than `now` answers them."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not now:
        yield
        return
    signal.signal(signal.SIGINT, by)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, then)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"stopped. The same command starts again\n")
    os._exit(CODE)


def _silently(number: int, frame: FrameType | None) -> None:
    os._exit(CODE)


begin()
