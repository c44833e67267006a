"""Signals, streams and ends before anything is loaded, where `python -m` or `finetune-study` runs a command of ours.

Ctrl-C ends it without a traceback, the number of a closed stream is not given to another file, and memory that is not there is one line. A
program that imports us is left unchanged. Temporary folders are removed however a process ends that can still act.
"""

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType

OURS = ("study", "analysis", "cluster")
SCRIPT = "finetune-study"  # what pyproject.toml calls study/__main__.py
CODE = 128 + signal.SIGINT
LEAST_MEMORY = 10**9  # bytes of addresses; training needs several times as many
NO_MEMORY = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory", "can't allocate memory")
"""Parts of what the system, glibc's loader and torch say of memory that they do not get."""
Handler = Callable[[int, FrameType | None], object]


def begin() -> None:
    """Prepare the process before our packages import anything else."""
    module = sys.argv[:1] == ["-m"]
    if _is_command() and (module or _is_script()):
        open_streams()
        refuse_too_little_memory()
        sys.excepthook = _told
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
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:  # print(file=None) would write to stdout
        sys.stderr = open(2, "w", closefd=False)


def refuse_too_little_memory() -> None:
    """End the process where its limit of memory is below what libraries need to be loaded: some then wait for ever for more."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        print(
            f"error: this process may use {limit / 1e9:.1f} GB of memory, and needs at least {LEAST_MEMORY / 1e9:.0f} GB to load its "
            "libraries. Raise its limit (`ulimit -v`), or run it where more is free.",
            file=sys.stderr,
        )
        sys.exit(4)


# ---- temporary folders --------------------------------------------------------------------------------------

_made: set[str] = set()


@contextlib.contextmanager
def temporary(prefix: str = "study-") -> Iterator[str]:
    """Make a temporary folder for the block. It is removed after it, and where a signal ends the process inside it."""
    folder = tempfile.mkdtemp(prefix=prefix)
    _made.add(folder)
    try:
        with _removed_by(signal.SIGTERM, signal.SIGHUP):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _made.discard(folder)


def remove_temporary() -> None:
    """Remove the temporary folders of this process, which is about to end without leaving its blocks."""
    for folder in list(_made):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _removed_by(*numbers: signal.Signals) -> Iterator[None]:
    """Remove temporary folders before a signal that nobody else answers ends the process."""
    main = threading.current_thread() is threading.main_thread()
    ours = [n for n in numbers if main and signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _die)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is _die:
                signal.signal(number, signal.SIG_DFL)


def _die(number: int, frame: FrameType | None) -> None:
    remove_temporary()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


# ---- ends ----------------------------------------------------------------------------------------------------


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that memory or a package is lacking, where an error says so that nobody caught; others keep their traceback."""
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").partition(".")[0]) not in ("", *OURS):
        said = (
            f"{sys.executable} has no package {package}. Use the Python of `make install` (.venv/bin/python), or install this project in "
            "that one."
        )
    elif isinstance(error, MemoryError) or (isinstance(error, ImportError | OSError) and any(t in str(error) for t in NO_MEMORY)):
        said = (
            f"this process gets no more memory ({' '.join(str(error).split()) or kind.__name__}). Raise its limit (`ulimit -v`, a "
            "container's), or run it where more is free."
        )
    else:
        sys.__excepthook__(kind, error, trace)
        return
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {said}", file=sys.stderr, flush=True)
    remove_temporary()
    os._exit(4)


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
    _silently(number, frame)


def _silently(number: int, frame: FrameType | None) -> None:
    remove_temporary()
    os._exit(CODE)


begin()
